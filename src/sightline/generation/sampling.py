"""How completions are drawn (`SamplingSettings`, `draw`) and what comes of it (`Sampled`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from sightline.config.online import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How completions are drawn. top_p 1, top_k 0 and min_p 0 leave the distribution as it is; temperature 0 is greedy.

    max_new_tokens: longest completion. stop: texts after which a completion ends.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: SamplingConfig) -> "SamplingSettings":
        """The settings of a recipe."""
        return cls(
            max_new_tokens=config.max_completion_length,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            stop=tuple(config.stop),
        )


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One completion.

    ids: its tokens, the end token included where there is one. finished: it ended by itself, not at the limit.
    log_probs: of its tokens by the sampler's own weights and arithmetic, at the sampling temperature over the whole
    vocabulary (before top-p, top-k and min-p), in nats; None from a sampler that does not give them.
    """

    ids: Int[Tensor, " tokens"]
    finished: bool
    log_probs: Float[Tensor, " tokens"] | None = None


Pick = Callable[[Float[Tensor, "rows vocabulary"], Int[Tensor, " rows"], int], Int[Tensor, " rows"]]
"""Picks a token for each row by the tokens' probabilities; given which completion each row is, and its token's
number."""


def seeds_at(places: Sequence[int], num_completions: int, seed: int) -> list[int]:
    """A seed for the first completion to the prompt at each place; its other completions follow with the next ones."""
    return [(seed * 1_000_003 + place) * num_completions for place in places]


def by_seeds(seeds: Sequence[int], num_completions: int, num_tokens: int, device: torch.device) -> Pick:
    """What is picked for a prompt depends on its seed alone: the token where the cumulated probabilities pass a number.

    The numbers, uniform in [0, 1), have 24 bits, so that none times a sum rounds to the sum.
    """
    rows = [torch.rand(num_completions, num_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    numbers = torch.cat(rows).double().to(device)
    return lambda weights, row, step: where_passed(weights, numbers[row, step])


def where_passed(weights: Float[Tensor, "rows vocabulary"], number: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """The token of each row at which the cumulated weights pass this share of their sum."""
    passed = weights.double().cumsum(-1)
    # to the right of equal sums: a token without weight adds nothing and is never the first to pass
    return torch.searchsorted(passed, passed[:, -1:] * number[:, None], right=True)[:, 0]


def by_global_state(num_rows: int) -> Pick:
    """Picks by torch's global random state, for all rows at once, ended ones too: as transformers' `generate` does."""

    def pick(weights: Tensor, row: Tensor, step: int) -> Tensor:
        of_all = weights.new_zeros(num_rows, weights.shape[1])
        of_all[:, 0] = 1
        of_all[row] = weights
        return torch.multinomial(of_all, 1)[row, 0]

    return pick


def draw(
    logits: Float[Tensor, "rows vocabulary"],
    banned: Sequence[int],
    settings: SamplingSettings,
    pick: Callable[[Float[Tensor, "rows vocabulary"]], Int[Tensor, " rows"]],
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """A token for each row, and its log-prob in the distribution that training sees: temperature and nothing else.

    banned: ids that are never drawn. pick: chooses by probabilities; at temperature 0 it is not asked.
    """
    allowed, scaled = logits.clone(), logits
    allowed[:, list(banned)] = -torch.inf
    if settings.temperature == 0:
        chosen = allowed.argmax(-1)
    else:
        scaled = logits / settings.temperature
        chosen = pick(_warpers(settings)(None, allowed).softmax(-1))  # pyright: ignore[reportArgumentType]
    return chosen, scaled.gather(-1, chosen[:, None])[:, 0] - scaled.logsumexp(-1)


def _warpers(settings: SamplingSettings) -> LogitsProcessorList:
    """As transformers' `generate` orders them."""
    warpers = LogitsProcessorList()
    if settings.temperature != 1:
        warpers.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k > 0:
        warpers.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        warpers.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p > 0:
        warpers.append(MinPLogitsWarper(settings.min_p))
    return warpers
