"""Sampling with a shared prompt: it is read once a group, and its keys and values are then repeated for every answer.

transformers' `generate` repeats the prompt first and reads it once an answer. Rows that have ended leave the batch.
For models whose past is a cache of keys and values (`shares_prompt`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList, PreTrainedModel, ProcessorMixin
from transformers.generation import (
    MinPLogitsWarper,
    StopStringCriteria,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from sightline.generation.generate import left_padded, token_settings
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.models.families.find import Family
from sightline.types import Group

KEEP_UNTIL = 0.75
"""Ended rows leave the batch once less than this share of it still runs: leaving costs a copy of the cache."""


def shares_prompt(family: Family) -> bool:
    """Whether a prompt's past can be repeated: not with recurrent layers, nor where pictures are attended to apart."""
    return family.layout == "prefix" and family.name != "mllama"


@dataclass
class Running:
    """The answers that are being written.

    row: which of the answers asked for each one is. position: of its next token, on each of the model's axes.
    logits: of its next token. done: it has ended, and what is drawn for it is not looked at.
    """

    row: Int[Tensor, " running"]
    mask: Int[Tensor, "running length"]
    position: Int[Tensor, "*axes running"]
    cache: DynamicCache
    logits: Float[Tensor, "running vocabulary"]
    done: Tensor

    def leave_ended(self) -> None:
        """Drop the rows that are done."""
        kept = (~self.done).nonzero()[:, 0]
        self.row, self.mask, self.position = self.row[kept], self.mask[kept], self.position[..., kept]
        self.logits, self.done = self.logits[kept], self.done[kept]
        self.cache.batch_select_indices(kept)


@torch.no_grad()
def decode(
    family: Family,
    processor: ProcessorMixin,
    groups: Sequence[Group],
    num_responses: int,
    settings: SamplingSettings,
    seeds: Sequence[int],
) -> list[list[Sampled]]:
    """`num_responses` answers to each prompt, all at once; on the CPU. The model must be in evaluation mode.

    seeds: one for each prompt; what is drawn for it depends on nothing else.
    """
    model, tokens = family.model, token_settings(family.model, processor, family)
    ends = torch.tensor(tokens["eos_token_id"], device=model.device)
    banned = tokens["suppress_tokens"] or []
    stop = StopStringCriteria(processor.tokenizer, list(settings.stop)) if settings.stop else None
    running = _read_prompts(family, groups, num_responses, tokens["pad_token_id"])
    total = len(groups) * num_responses
    ids = torch.full((total, settings.max_new_tokens), int(ends[0]), device=model.device)
    log_probs = torch.zeros(ids.shape, device=model.device)
    lengths = torch.full((total,), settings.max_new_tokens, device=model.device)
    finished = torch.zeros(total, dtype=torch.bool, device=model.device)
    warpers = _warpers(settings)
    numbers = _uniform(seeds, num_responses, settings.max_new_tokens).to(model.device)
    for step in range(settings.max_new_tokens):
        chosen, logp = _draw(running.logits, banned, settings, warpers, numbers[running.row, step])
        active = ~running.done
        rows = running.row[active]
        ids[rows, step], log_probs[rows, step] = chosen[active], logp[active]
        ended = torch.isin(chosen, ends)
        if stop is not None:
            ended |= stop(ids[running.row, : step + 1], running.logits)  # pyright: ignore[reportArgumentType]
        newly = running.row[ended & active]
        finished[newly] = True
        lengths[newly] = step + 1
        running.done |= ended
        if running.done.all() or step + 1 == settings.max_new_tokens:
            break
        if (~running.done).sum() < KEEP_UNTIL * len(running.done):
            chosen = chosen[~running.done]
            running.leave_ended()
        _advance(model, running, chosen)
    sampled = [
        Sampled(ids=row[:length].clone(), log_probs=logp[:length].clone(), finished=end)
        for row, logp, length, end in zip(ids.cpu(), log_probs.cpu(), lengths.tolist(), finished.tolist(), strict=True)
    ]
    return [sampled[start : start + num_responses] for start in range(0, total, num_responses)]


def _read_prompts(family: Family, groups: Sequence[Group], num_responses: int, padding: int) -> Running:
    """One forward over the prompts, padded on the left, then every row `num_responses` times."""
    model = family.model
    placed = [family.place(group) for group in groups]
    length = max(len(group.prompt_ids) for group in placed)
    ids = torch.stack([left_padded(group.prompt_ids, length, padding) for group in placed])
    mask = torch.stack([left_padded(torch.ones_like(group.prompt_ids), length, 0) for group in placed])
    positions = torch.stack([_positions(group, length) for group in placed], -2)
    inputs = family.concatenate([group.model_inputs for group in placed])
    for name in family.along_tokens:
        if any(name in group.model_inputs for group in placed):
            kinds = [g.model_inputs[name][0] if name in g.model_inputs else g.prompt_ids * 0 for g in placed]
            inputs[name] = torch.stack([left_padded(kind, length, 0) for kind in kinds])
    cache = DynamicCache(config=model.config.get_text_config())
    call: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        **inputs,
    }
    call = {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in call.items()}
    output = model(**call, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(num_responses)
    start = torch.tensor([group.next_position for group in placed], device=model.device)
    start = start.repeat_interleave(num_responses).expand(*positions.shape[:-2], -1)
    return Running(
        row=torch.arange(len(groups) * num_responses, device=model.device),
        mask=call["attention_mask"].repeat_interleave(num_responses, 0),
        position=start,
        cache=cache,
        logits=output.logits[:, -1].float().repeat_interleave(num_responses, 0),
        done=torch.zeros(len(groups) * num_responses, dtype=torch.bool, device=model.device),
    )


def _advance(model: PreTrainedModel, running: Running, chosen: Int[Tensor, " running"]) -> None:
    """One forward over the tokens just drawn."""
    running.mask = torch.nn.functional.pad(running.mask, (0, 1), value=1)
    output = model(
        input_ids=chosen[:, None],
        attention_mask=running.mask,
        position_ids=running.position[..., None],
        past_key_values=running.cache,
        use_cache=True,
        logits_to_keep=1,
    )
    running.position = running.position + 1
    running.logits = output.logits[:, -1].float()


def _positions(group: Group, length: int) -> Int[Tensor, "*axes length"]:
    assert group.positions is not None
    return torch.nn.functional.pad(group.positions, (length - len(group.prompt_ids), 0))


def _draw(
    logits: Float[Tensor, "running vocabulary"],
    banned: list[int],
    settings: SamplingSettings,
    warpers: LogitsProcessorList,
    number: Float[Tensor, " running"],
) -> tuple[Int[Tensor, " running"], Float[Tensor, " running"]]:
    """A token for each row, and its log-prob in the distribution that training sees: temperature and nothing else.

    number: uniform in [0, 1); the token is where the cumulated probabilities pass it.
    """
    scaled = logits / settings.temperature if settings.temperature > 0 else logits
    allowed = logits.clone()
    allowed[:, banned] = -torch.inf
    if settings.temperature == 0:
        chosen = allowed.argmax(-1)
    else:
        weights = warpers(None, allowed).softmax(-1)  # pyright: ignore[reportArgumentType]
        passed = weights.double().cumsum(-1)
        # to the right of equal sums: a token without weight adds nothing and is never the first to pass
        chosen = torch.searchsorted(passed, passed[:, -1:] * number[:, None], right=True)[:, 0]
    return chosen, scaled.gather(-1, chosen[:, None])[:, 0] - scaled.logsumexp(-1)


def _uniform(seeds: Sequence[int], num_responses: int, num_tokens: int) -> Float[Tensor, "answers tokens"]:
    """Numbers in [0, 1) for every token that may be drawn. Of 24 bits, so that none times a sum rounds to the sum."""
    rows = [torch.rand(num_responses, num_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.cat(rows).double()


def _warpers(settings: SamplingSettings) -> LogitsProcessorList:
    """As transformers' `generate` orders them."""
    warpers = LogitsProcessorList()
    if settings.temperature not in (0.0, 1.0):
        warpers.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k > 0:
        warpers.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        warpers.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p > 0:
        warpers.append(MinPLogitsWarper(settings.min_p))
    return warpers
