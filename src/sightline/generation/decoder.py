"""Completions, token by token, from a cache: whatever prompts share is read once and then continued many times.

`read_prompts` gives the `Past` of some prompts; `Past.fork` lets one prompt's past be continued by K completions, or by
the questions on one image, and lets rows that have ended leave; `write` draws a token for every row of
`CompletionBatch` and reads it, until all have ended. Image placeholders are never drawn: a random policy emits them,
and the tower then finds more placeholders than images. Left out: beam search.

What is particular to a model (positions, inputs, what its past is and how it is forked) is asked of its `Family`.
Where a family does not know (`Family.decodes`), transformers' own `generate` writes the tokens that are drawn here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, GenerationConfig, LogitsProcessor, ProcessorMixin
from transformers.generation import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from sightline.data.render.render import Renderer
from sightline.forward.features import Features
from sightline.generation.sampling import Pick, Sampled, SamplingSettings, draw
from sightline.layout.grid import stack_left
from sightline.models.families.family import Family, fitting_images
from sightline.types import Group

KEEP_UNTIL = 0.75
"""Ended rows leave the batch once less than this share of it still runs: leaving costs a copy of the cache."""


class SpecialTokens(NamedTuple):
    """Ids that end a completion (the model's, or what ends a turn of its chat template), that fill up shorter rows, and
    that are never drawn."""

    ends: list[int]
    padding: int
    banned: list[int]


def special_tokens(processor: ProcessorMixin, family: Family) -> SpecialTokens:
    """The special tokens of a model's completions."""
    tokenizer, named = processor.tokenizer, family.model.generation_config.eos_token_id
    named = named if isinstance(named, list) else [named]
    # what ends a turn of the chat template is what training puts at the end of every response
    ends = sorted({i for i in [*named, tokenizer.eos_token_id, Renderer(processor).end_of_turn_id] if i is not None})
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    return SpecialTokens(ends, padding, sorted(family.image_token_ids))


def followed_by(family: Family, group: Group, ids: Int[Tensor, " more"]) -> Group:
    """The prompt with text after it, which no image is in: a question, or the beginning of an answer."""
    along = {}
    for name in {*family.along_tokens, *family.continues} & group.model_inputs.keys():
        value = group.model_inputs[name]
        last = value[:, -1:] if name in family.continues else torch.zeros_like(value[:, -1:])
        along[name] = torch.cat([value, last.expand(-1, len(ids), *value.shape[2:])], dim=1)
    whole = torch.cat([group.prompt_ids, ids])
    return replace(group, prompt_ids=whole, model_inputs={**group.model_inputs, **along})


@dataclass
class Past:
    """What a model has read of some rows, and what it needs to read on.

    mask: which places of a row hold tokens, not padding. position: of its next token, on each of the model's axes.
    inputs: what every later token is read with, by name, a row each.
    """

    family: Family
    cache: Cache
    mask: Int[Tensor, "rows length"]
    position: Int[Tensor, "*axes rows"]
    inputs: dict[str, Tensor]

    def fork(self, rows: Int[Tensor, " chosen"]) -> None:
        """Go on with these rows; one may come several times, and others not at all."""
        self.family.fork(self.cache, rows)
        self.mask, self.position = self.mask[rows], self.position[..., rows]
        self.inputs = {name: value[rows] for name, value in self.inputs.items()}

    def read(
        self, ids: Int[Tensor, "rows new"], mask: Int[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocabulary"]:
        """Logits of what follows these tokens. mask: 1 for tokens, 0 for padding on the left; None is all tokens."""
        mask = torch.ones_like(ids) if mask is None else mask
        self.mask = torch.cat([self.mask, mask], 1)
        # padding stands where it likes: nobody sees it
        positions = self.position[..., None] + (mask.cumsum(1) - 1).clamp(min=0)
        self.position = positions[..., -1] + 1
        inputs = {name: value.expand(-1, ids.shape[1], *value.shape[2:]) for name, value in self.inputs.items()}
        return _next_logits(self.family, self.cache, ids, self.mask, positions, inputs)


def read_prompts(
    family: Family, groups: Sequence[Group], padding: int, features: Features | None = None
) -> tuple[Past, Float[Tensor, "rows vocabulary"]]:
    """One forward over the prompts, a row each: their past, and logits of what follows them.

    padding: id that fills shorter prompts up, on the left. features: of the same prompts' images, if computed before.
    """
    placed, device = [family.place(group) for group in groups], family.model.device
    ids = stack_left([group.prompt_ids for group in placed], padding).to(device)
    mask = stack_left([torch.ones_like(group.prompt_ids) for group in placed], 0).to(device)
    positions = stack_left([group.positions for group in placed if group.positions is not None], 0).to(device)
    inputs = family.prompt_inputs(placed, None if features is None else features.pieces)
    cache = family.new_cache()
    logits = _next_logits(family, cache, ids, mask, positions, inputs)
    position = torch.tensor([group.next_position for group in placed], device=device).expand(positions.shape[:-1])
    later = {name: inputs[name][:, -1:] for name in family.continues if name in inputs}
    return Past(family, cache, mask, position, later), logits


def _next_logits(
    family: Family, cache: Cache, ids: Tensor, mask: Tensor, positions: Tensor, inputs: dict[str, Any]
) -> Float[Tensor, "rows vocabulary"]:
    with fitting_images():
        output = family.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **inputs,
        )
    return output.logits[:, -1].float()


class CompletionBatch:
    """Completions that are being written: what was drawn for each, and which of them still run.

    row: which completion each row of the batch is. ended: rows of which nothing more is kept. step: tokens drawn so
    far.
    """

    def __init__(
        self,
        number: int,
        processor: ProcessorMixin,
        family: Family,
        settings: SamplingSettings,
        pick: Pick | None = None,
    ) -> None:
        """pick: how tokens are drawn; may be left out at temperature 0."""
        self.settings, self.pick, device = settings, pick, family.model.device
        self.tokens = special_tokens(processor, family)
        self.stop = StopStringCriteria(processor.tokenizer, list(settings.stop)) if settings.stop else None
        self.ends = torch.tensor(self.tokens.ends, device=device)
        self.ids = torch.full((number, settings.max_new_tokens), self.tokens.ends[0], device=device)
        self.log_probs = torch.zeros(self.ids.shape, device=device)
        self.lengths = torch.full((number,), settings.max_new_tokens, device=device)
        self.finished = torch.zeros(number, dtype=torch.bool, device=device)
        self.row, self.ended, self.step = torch.arange(number, device=device), torch.zeros_like(self.finished), 0

    def draw(self, logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
        """The next token of every row, kept for those that still run."""

        def pick(weights: Tensor) -> Tensor:
            assert self.pick is not None
            return self.pick(weights, self.row, self.step)

        chosen, logp = draw(logits, self.tokens.banned, self.settings, pick)
        active = ~self.ended
        row = self.row[active]
        self.ids[row, self.step], self.log_probs[row, self.step] = chosen[active], logp[active]
        self.step += 1
        ended = torch.isin(chosen, self.ends)
        if self.stop is not None:
            ended |= self.stop(self.ids[self.row, : self.step], logits)  # pyright: ignore[reportArgumentType]
        newly = self.row[ended & active]
        self.finished[newly], self.lengths[newly] = True, self.step
        self.ended |= ended
        return chosen

    @property
    def done(self) -> bool:
        """Whether all have ended, by themselves or at the limit."""
        return self.step == self.settings.max_new_tokens or bool(self.ended.all())

    def leave_ended(self) -> Int[Tensor, " rows"] | None:
        """Drop the rows that have ended, once they are many; the places of those that go on, None where all stay."""
        if (~self.ended).sum() >= KEEP_UNTIL * len(self.ended):
            return None
        kept = (~self.ended).nonzero()[:, 0]
        self.row, self.ended = self.row[kept], self.ended[kept]
        return kept

    def sampled(self) -> list[Sampled]:
        """All of them, on the CPU."""
        found = zip(self.ids.cpu(), self.log_probs.cpu(), self.lengths.tolist(), self.finished.tolist(), strict=True)
        return [
            Sampled(ids=ids[:length].clone(), log_probs=logp[:length].clone(), finished=finished)
            for ids, logp, length, finished in found
        ]


def write(
    past: Past, logits: Float[Tensor, "rows vocabulary"], completions: CompletionBatch
) -> Iterator[Int[Tensor, " rows"]]:
    """Draw and read the completions to the end; gives every row's token as it is drawn. logits: of their first tokens.

    Whatever is in force at each `next()` (mode, gradients, adapter) is what the model then runs with.
    """
    while True:
        chosen = completions.draw(logits)
        yield chosen
        if completions.done:
            return
        if (kept := completions.leave_ended()) is not None:
            past.fork(kept)
            chosen = chosen[kept]
        logits = past.read(chosen[:, None])


def complete_prompts(
    family: Family,
    groups: Sequence[Group],
    num_completions: int,
    completions: CompletionBatch,
    features: Features | None = None,
) -> Iterator[Int[Tensor, " rows"]]:
    """Write `num_completions` completions to each prompt, adjacent; gives every row's token as it is drawn (see
    `write`).

    features: of the same prompts' images, if computed before.
    """
    if not family.decodes:
        yield from _by_transformers(family, groups, num_completions, completions, features)
        return
    past, logits = read_prompts(family, groups, completions.tokens.padding, features)
    if num_completions > 1:
        rows = torch.arange(len(groups), device=logits.device).repeat_interleave(num_completions)
        past.fork(rows)
        logits = logits[rows]
    yield from write(past, logits, completions)


def _by_transformers(
    family: Family,
    groups: Sequence[Group],
    num_completions: int,
    completions: CompletionBatch,
    features: Features | None,
) -> Iterator[Int[Tensor, " rows"]]:
    """The same through transformers' `generate`, which reads a prompt once a completion; all tokens come at the end."""
    model, tokens = family.model, completions.tokens
    # its own way to several completions mixes up the images of some models' prompts
    groups = [group for group in groups for _ in range(num_completions)]
    pieces = None if features is None else [piece for piece in features.pieces for _ in range(num_completions)]
    settings = GenerationConfig(
        max_new_tokens=completions.settings.max_new_tokens,
        eos_token_id=tokens.ends,
        pad_token_id=tokens.padding,
        do_sample=False,  # `_Drawn` leaves nothing to chance
        # the model's own habits are not taken
        repetition_penalty=1.0,
        use_cache=True,
    )
    ids = stack_left([group.prompt_ids for group in groups], tokens.padding).to(model.device)
    mask = stack_left([torch.ones_like(group.prompt_ids) for group in groups], 0).to(model.device)
    with fitting_images():
        model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=LogitsProcessorList([_Drawn(completions)]),
            stopping_criteria=StoppingCriteriaList([_Ended(completions)]),
            **family.prompt_inputs(groups, pieces),
        )
    yield from completions.ids[:, : completions.step].T


class _Drawn(LogitsProcessor):
    """Leaves transformers' `generate` no choice but the tokens that `completions` draws."""

    def __init__(self, completions: CompletionBatch) -> None:
        self.completions = completions

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if self.completions.done:  # on a GPU transformers looks one token further before it stops
            return scores
        chosen = self.completions.draw(scores)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class _Ended(StoppingCriteria):
    """Ends transformers' `generate` where the completions end."""

    def __init__(self, completions: CompletionBatch) -> None:
        self.completions = completions

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return self.completions.ended
