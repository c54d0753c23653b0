"""What a sampler is: something that answers prompts several times, with weights that follow the policy's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from sightline.config.online import SamplingConfig
from sightline.types import Group


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How answers are drawn. top_p 1, top_k 0 and min_p 0 leave the distribution as it is; temperature 0 is greedy.

    max_new_tokens: longest answer. stop: texts behind which an answer ends.
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
    """One answer.

    ids: its tokens, the end token included where there is one. finished: it ended by itself, not at the limit.
    log_probs: of its tokens by the sampler's own weights and arithmetic, at the sampling temperature over the whole
    vocabulary (before top-p, top-k and min-p), in nats; None from a sampler that does not give them.
    """

    ids: Int[Tensor, " tokens"]
    finished: bool
    log_probs: Float[Tensor, " tokens"] | None = None


def seeds_of(groups: Sequence[Group], num_responses: int, seed: int) -> list[int]:
    """A seed for each group's first answer, the next ones for its others.

    It follows from the prompt's place in the run (`extra["place"]`, else among these groups), so that answers depend
    neither on the number of processes nor on which prompts are sampled together.
    """
    places = [int(group.extra.get("place", i)) for i, group in enumerate(groups)]
    return [(seed * 1_000_003 + place) * num_responses for place in places]


@runtime_checkable
class Sampler(Protocol):
    """Answers prompts.

    exact: its log-probs are the trainer's up to rounding, so that no correction is needed.
    """

    exact: bool

    def sample(
        self, groups: Sequence[Group], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """`num_responses` answers to each group's prompt, in the order of the groups.

        The same weights, groups, settings and seed give the same answers (see `seeds_of`). Picture placeholders are
        never sampled.
        """
        ...

    def sync(self, policy: nn.Module) -> None:
        """Take the policy's present weights: called before every round of sampling that follows an update."""
        ...

    def close(self) -> None:
        """Give back what it holds: processes, memory, files."""
        ...
