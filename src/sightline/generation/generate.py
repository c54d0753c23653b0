"""Answers from a model: batched, greedy or sampled, through transformers' own `generate`.

Prompts are sorted by length and padded on the left, several hundred a batch if the model is small. Samples of one
prompt share its vision features. Image placeholders are never sampled: a random policy emits them, and the tower then
finds more placeholders than pictures. Left out: beam search, and sharing the prompt's keys and values (`rollouts`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, ProcessorMixin, StoppingCriteria, StoppingCriteriaList
from transformers.generation import StopStringCriteria

from sightline.data.render.render import Renderer
from sightline.forward.features import Features
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

    An answer ends with an end token (the model's, or what ends a turn of its chat template) or behind one of the texts
    of `stop` where it produced one within `max_new_tokens`. Greedy unless `do_sample`; then `temperature`, `top_p` (1
    is all), `top_k` (0 is all) and `min_p` (0 is all) apply. The same seed, groups and batch size give the same
    answers, and the global random state is left as it was; without a seed that state is used. `batch_size` counts
    answers, not prompts. The model (wrapped by peft or DDP, or bare) is in eval mode meanwhile. features: of the same
    groups' pictures, which are then not encoded again.
    """
    if num_return > 1 and not do_sample:
        raise ValueError(f"num_return={num_return} greedy answers would all be the same; pass do_sample=True.")
    family, bare = family_of(model), unwrap(model)
    settings = token_settings(bare, processor, family)
    settings.update(max_new_tokens=max_new_tokens, num_return_sequences=num_return, do_sample=do_sample)
    if do_sample:
        settings.update(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p or None)
    until = StopStringCriteria(processor.tokenizer, list(stop)) if stop else None
    batches = _batches(family, groups, max(1, batch_size // num_return))
    done = 0
    answers: list[list[Tensor]] = [[] for _ in groups]
    with torch.no_grad(), in_eval_mode(model), _seeded(bare.device, seed):
        for chosen in batches:
            encoded = None if features is None else features.select(chosen)
            prompts, config = [groups[i] for i in chosen], GenerationConfig(**settings)
            rows = _generate_batch(bare, family, prompts, encoded, config, until)
            for place, i in enumerate(chosen):
                answers[i] = rows[place * num_return : (place + 1) * num_return]
            if progress is not None:
                done += len(chosen)
                progress(done, len(groups))
    return answers


def _batches(family: Family, groups: Sequence[Group], size: int) -> list[list[int]]:
    """Places of the groups, the longest first: what does not fit in memory fails at once.

    Prompts with and without pictures stay apart: cross-attention has nothing to attend to in a row without.
    """
    order = sorted(range(len(groups)), key=lambda i: -len(groups[i].prompt_ids))
    kinds = [[i for i in order if family.has_pictures(groups[i]) == wanted] for wanted in (True, False)]
    return [kind[start : start + size] for kind in kinds for start in range(0, len(kind), size)]


def _generate_batch(
    model: PreTrainedModel,
    family: Family,
    groups: list[Group],
    features: Features | None,
    settings: GenerationConfig,
    until: StopStringCriteria | None,
) -> list[Tensor]:
    """`num_return_sequences` answers a group, adjacent, each cut after its end token or stop text."""
    length = max(len(g.prompt_ids) for g in groups)
    ids = torch.stack([left_padded(g.prompt_ids, length, settings.pad_token_id) for g in groups])
    mask = torch.stack([left_padded(torch.ones_like(g.prompt_ids), length, 0) for g in groups])
    # what was encoded before is not sent again
    encoded_already = set() if features is None else {*family.tower_inputs} - {*family.along_pictures}
    inputs = family.concatenate(
        [{name: value for name, value in g.model_inputs.items() if name not in encoded_already} for g in groups]
    )
    for name in family.along_tokens:
        if any(name in g.model_inputs for g in groups):
            kinds = [g.model_inputs[name][0] if name in g.model_inputs else g.prompt_ids * 0 for g in groups]
            inputs[name] = torch.stack([left_padded(kind, length, 0) for kind in kinds])
    inputs = {name: v.to(model.device) if isinstance(v, Tensor) else v for name, v in inputs.items()}
    with nullcontext({}) if features is None else features.family.generating([*features.pieces]) as encoded:
        output = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=settings,
            stopping_criteria=StoppingCriteriaList([_BehindPrompt(until, length)] if until is not None else []),
            **inputs,
            **encoded,
        )
    answers = output[:, length:].cpu()
    lengths = _lengths_until(until, answers) if until is not None else [answers.shape[1]] * len(answers)
    return [_until_end(row[:n], settings.eos_token_id) for row, n in zip(answers, lengths, strict=True)]


class _BehindPrompt(StoppingCriteria):
    """Looks for a stop text in the answer alone. length: of the prompt, in tokens."""

    def __init__(self, criterion: StopStringCriteria, length: int) -> None:
        self.criterion, self.length = criterion, length

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return self.criterion(input_ids[:, self.length :], scores, **kwargs)


def _lengths_until(criterion: StopStringCriteria, answers: Int[Tensor, "rows tokens"]) -> list[int]:
    """Tokens of each answer up to its first stop text, that one included; what follows is padding."""
    lengths = torch.full((len(answers),), answers.shape[1])
    for length in range(answers.shape[1], 0, -1):
        ended: Any = criterion(answers[:, :length], None)  # pyright: ignore[reportArgumentType]
        lengths[ended] = length
    return lengths.tolist()


def left_padded(values: Int[Tensor, " prompt"], length: int, padding: int) -> Int[Tensor, " length"]:
    """`values` at the right end of `length` places."""
    return nn.functional.pad(values, (length - len(values), 0), value=padding)


def _until_end(row: Int[Tensor, " tokens"], end_ids: list[int]) -> Int[Tensor, " answer"]:
    """The answer up to its first end token, that one included; what follows is padding."""
    ends = torch.isin(row, torch.tensor(end_ids)).nonzero()
    return row[: int(ends[0]) + 1].clone() if len(ends) else row


def token_settings(model: PreTrainedModel, processor: ProcessorMixin, family: Family) -> dict[str, Any]:
    """End and padding tokens and what must not be sampled; the model's own habits (penalties, top-k) are not taken."""
    tokenizer = processor.tokenizer
    named = model.generation_config.eos_token_id
    named = named if isinstance(named, list) else [named]
    # what ends a turn of the chat template is what training puts at the end of every response
    end_ids = sorted({i for i in [*named, tokenizer.eos_token_id, Renderer(processor).end_of_turn_id] if i is not None})
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    return {
        "eos_token_id": end_ids,
        "pad_token_id": padding,
        "suppress_tokens": sorted(family.image_token_ids) or None,
        "repetition_penalty": 1.0,
        "use_cache": True,
    }


@contextmanager
def _seeded(device: torch.device, seed: int | None) -> Iterator[None]:
    """Sample with this seed, then give the global random state back; None does nothing."""
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
