"""Answers to prompts: `generate` and `sample` in batches, `stream` token by token.

Prompts are sorted by length and padded on the left, several hundred a batch if the model is small. The answers to one
prompt share what was read of it, its images included (`decoder`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.forward.features import Features
from sightline.generation.decoder import Answers, answer_prompts
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
    """`num_return` answers to each group's prompt, in the order of the groups, as token ids on the CPU.

    An answer ends with an end token (the model's, or what ends a turn of its chat template) or after one of the texts
    of `stop` where it produced one within `max_new_tokens`. Greedy unless `do_sample`; then `temperature`, `top_p` (1
    is all), `top_k` (0 is all) and `min_p` (0 is all) apply. The same seed, groups and batch size give the same
    answers, and the global random state is left as it was; without a seed that state is used. `batch_size` counts
    answers, not prompts. The model (wrapped by peft or DDP, or bare) is in eval mode meanwhile. features: of the same
    groups' images, which are then not encoded again. Raises ValueError for several greedy answers, or a temperature
    of 0 with `do_sample`.
    """
    if num_return > 1 and not do_sample:
        raise ValueError(f"num_return={num_return} greedy answers would all be the same; pass do_sample=True.")
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
    return [[answer.ids for answer in answers] for answers in found]


def sample(
    model: nn.Module,
    processor: ProcessorMixin,
    groups: Sequence[Group],
    num_answers: int,
    settings: SamplingSettings,
    *,
    seeds: Sequence[int] | None = None,
    batch_size: int = 32,
    features: Features | None = None,
    progress: Progress | None = None,
) -> list[list[Sampled]]:
    """`num_answers` answers to each group's prompt, in the order of the groups, on the CPU; as `generate`.

    seeds: one for each group; its answers then depend on nothing else. Without, torch's global random state is used.
    """
    family = family_of(model) if features is None else features.family
    answers: list[list[Sampled]] = [[] for _ in groups]
    done, device = 0, family.model.device
    with torch.no_grad(), in_eval_mode(model), _state_kept(device, seeds is not None):
        # transformers' `generate` gets prompts one by one: with padding on the left some models count positions from it
        prompts_at_once = max(1, batch_size // num_answers) if family.decodes else 1
        for chosen in _batches(family, groups, prompts_at_once):
            number = len(chosen) * num_answers
            if seeds is None:
                pick = by_global_state(number)
            else:
                own = [seeds[i] for i in chosen]
                pick = by_seeds(own, num_answers, settings.max_new_tokens, device)
            batch = Answers(number, processor, family, settings, pick)
            prompts = [groups[i] for i in chosen]
            encoded = None if features is None else features.select(chosen)
            for _ in answer_prompts(family, prompts, num_answers, batch, encoded):
                pass
            sampled = batch.sampled()
            for place, i in enumerate(chosen):
                answers[i] = sampled[place * num_answers : (place + 1) * num_answers]
            if progress is not None:
                done += len(chosen)
                progress(done, len(groups))
    return answers


def stream(model: nn.Module, processor: ProcessorMixin, group: Group, *, max_new_tokens: int) -> Iterator[int]:
    """The tokens of the greedy answer to one prompt, its end token left out.

    Each `next()` runs the model once, with whatever adapter is in force then, so that several models can take turns on
    one loaded base. A model that transformers' `generate` writes for (`Family.decodes`) answers at once.
    """
    family = family_of(model)
    answers = Answers(1, processor, family, SamplingSettings(max_new_tokens=max_new_tokens, temperature=0.0))
    tokens = answer_prompts(family, [group], 1, answers)
    while True:
        # no `with` around a yield: the mode would stay whatever it is while the caller runs another model
        with torch.no_grad(), in_eval_mode(model):
            token = next(tokens, None)
        if token is None or int(token) in answers.tokens.ends:
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
