"""Completions of prompts: `generate` and `sample` in batches, `stream` token by token.

Prompts are sorted by length and padded on the left, several hundred a batch if the model is small. The completions to
one prompt share what was read of it, its images included (`decoder`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.forward.features import Features
from sightline.generation.decoder import CompletionBatch, complete_prompts
from sightline.generation.sampling import Sampled, SamplingSettings, by_global_state, by_seeds
from sightline.models.families.family import Family
from sightline.models.families.find import family_of
from sightline.models.unwrap import in_eval_mode, unwrap
from sightline.types import Group

Progress = Callable[[int, int], None]
"""Called with how many prompts are answered so far, and how many there are."""


def generate(
    model: nn.Module,
    processor: ProcessorMixin,
    groups: Sequence[Group],
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    stop: Sequence[str] = (),
    num_return: int = 1,
    seed: int | None = None,
    batch_size: int = 32,
    features: Features | None = None,
    progress: Progress | None = None,
) -> list[list[Tensor]]:
    """`num_return` completions to each group's prompt, in the order of the groups, as token ids on the CPU.

    A completion ends with an end token (the model's, or what ends a turn of its chat template) or after one of the
    texts of `stop` where it produced one within `max_new_tokens`. Greedy unless `do_sample`; then `temperature`,
    `top_p` (1 is all), `top_k` (0 is all) and `min_p` (0 is all) apply. The same seed, groups and batch size give the
    same completions, and the global random state is left as it was; without a seed that state is used. `batch_size`
    counts completions, not prompts. The model (wrapped by peft or DDP, or bare) is in eval mode meanwhile. features: of
    the same groups' images, which are then not encoded again. Raises ValueError for several greedy completions, or a
    temperature of 0 with `do_sample`.
    """
    if num_return > 1 and not do_sample:
        raise ValueError(f"num_return={num_return} greedy completions would all be the same; pass do_sample=True.")
    if do_sample and temperature <= 0:
        raise ValueError(
            f"temperature={temperature} leaves nothing to sample; pass do_sample=False, or a positive one."
        )
    settings = SamplingSettings(
        max_new_tokens=max_new_tokens,
        temperature=temperature if do_sample else 0.0,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        stop=tuple(stop),
    )
    with _state_kept(unwrap(model).device, seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        found = sample(
            model, processor, groups, num_return, settings, batch_size=batch_size, features=features, progress=progress
        )
    return [[completion.ids for completion in completions] for completions in found]


def sample(
    model: nn.Module,
    processor: ProcessorMixin,
    groups: Sequence[Group],
    num_completions: int,
    settings: SamplingSettings,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int = 32,
    features: Features | None = None,
    progress: Progress | None = None,
) -> list[list[Sampled]]:
    """`num_completions` completions to each group's prompt, in the order of the groups, on the CPU; as `generate`.

    seeds: one for each group; its completions then depend on nothing else. Without, torch's global random state is
    used.
    """
    family = family_of(model) if features is None else features.family
    completions: list[list[Sampled]] = [[] for _ in groups]
    done, device = 0, family.model.device
    with torch.no_grad(), in_eval_mode(model), _state_kept(device, seeds is not None):
        # transformers' `generate` gets prompts one by one: with padding on the left some models count positions from it
        prompts_at_once = max(1, batch_size // num_completions) if family.decodes else 1
        for chosen in _batches(family, groups, prompts_at_once):
            number = len(chosen) * num_completions
            if seeds is None:
                pick = by_global_state(number)
            else:
                own = [seeds[i] for i in chosen]
                pick = by_seeds(own, num_completions, settings.max_new_tokens, device)
            batch = CompletionBatch(number, processor, family, settings, pick)
            prompts = [groups[i] for i in chosen]
            encoded = None if features is None else features.select(chosen)
            for _ in complete_prompts(family, prompts, num_completions, batch, encoded):
                pass
            sampled = batch.sampled()
            for place, i in enumerate(chosen):
                completions[i] = sampled[place * num_completions : (place + 1) * num_completions]
            if progress is not None:
                done += len(chosen)
                progress(done, len(groups))
    return completions


def stream(model: nn.Module, processor: ProcessorMixin, group: Group, *, max_new_tokens: int) -> Iterator[int]:
    """The tokens of the greedy completion to one prompt, its end token left out.

    Each `next()` runs the model once, with whatever adapter is in force then, so that several models can take turns on
    one loaded base. A model that transformers' `generate` writes for (`Family.decodes`) gives all tokens at once.
    """
    family = family_of(model)
    completions = CompletionBatch(
        1, processor, family, SamplingSettings(max_new_tokens=max_new_tokens, temperature=0.0)
    )
    tokens = complete_prompts(family, [group], 1, completions)
    while True:
        # no `with` around a yield: the mode would stay whatever it is while the caller runs another model
        with torch.no_grad(), in_eval_mode(model):
            token = next(tokens, None)
        if token is None or int(token) in completions.tokens.ends:
            return
        yield int(token)


def _batches(family: Family, groups: Sequence[Group], size: int) -> list[list[int]]:
    """Places of the groups, the longest first: what does not fit in memory fails at once.

    Prompts with and without images stay apart: cross-attention has nothing to attend to in a row without.
    """
    order = sorted(range(len(groups)), key=lambda i: -len(groups[i].prompt_ids))
    kinds = [[i for i in order if family.has_images(groups[i]) == wanted] for wanted in (True, False)]
    return [kind[start : start + size] for kind in kinds for start in range(0, len(kind), size)]


def _state_kept(device: torch.device, kept: bool) -> AbstractContextManager:
    """Give torch's global random state back afterwards, if it is to be kept."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=kept)
