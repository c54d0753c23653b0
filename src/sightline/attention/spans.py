"""Where prompts and responses stand in a grid: the plan that every attention kernel without a mask takes.

Made on the host, from the grid before it is moved, so that nobody waits for a device.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sightline.layout import visible
from sightline.transfer import move_together
from sightline.types import Batch

Run = tuple[int, int]
"""First token and end of a run of tokens in the flattened grid."""


@dataclass(frozen=True, kw_only=True)
class PromptMask:
    """Prompts side by side, for a dense mask on [prompt × prompt] alone.

    tokens: places of every prompt's tokens in the flattened grid, filled with its first. seen: which of them each sees.
    real: flat places in `tokens` that are no filling; into: the tokens that stand there.
    """

    tokens: Int[Tensor, "prompts longest"]
    seen: Bool[Tensor, "prompts longest longest"]
    real: Int[Tensor, " prompt_tokens"]
    into: Int[Tensor, " prompt_tokens"]

    def to(self, device: torch.device) -> "PromptMask":
        """The same on `device`, in one copy that nobody waits for."""
        return PromptMask(**dict(zip(vars(self), move_together([*vars(self).values()], device), strict=True)))


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Where prompts and responses stand in the flattened grid, N = rows · length tokens.

    responses: the run of responses after each prompt, possibly empty. single: every response. filling: runs of padding.
    sees: what a prompt's tokens see of it: what is before them, all, or (blocks) what `prompt_mask` says.
    last_layer: the layer in which of a prompt only the last token asks, since the head reads no other; None for no such
    layer.
    """

    total: int
    prompts: tuple[Run, ...]
    responses: tuple[Run, ...]
    single: tuple[Run, ...]
    filling: tuple[Run, ...]
    sees: Literal["causal", "two-way", "blocks"]
    prompt_mask: PromptMask | None = None
    last_layer: int | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are no padding."""
        return sum(end - start for start, end in (*self.prompts, *self.single))


def spans_of(batch: Batch, last_layer: int | None = None) -> Spans:
    """The spans of a grid on the host."""
    rows, length = batch.input_ids.shape
    group, segment = batch.group.flatten(), batch.segment.flatten()
    begins = (segment == 0) & (batch.rank.flatten() == 0)
    changes = (group[1:] != group[:-1]) | (segment[1:] != segment[:-1]) | begins[1:]
    changes |= torch.arange(1, rows * length) % length == 0
    starts = [0, *(changes.nonzero()[:, 0] + 1).tolist()]
    prompts: list[Run] = []
    responses: list[Run] = []
    single: list[Run] = []
    filling: list[Run] = []
    for start, end, kind in zip(starts, [*starts[1:], rows * length], segment[starts].tolist(), strict=True):
        if kind == 0:
            prompts.append((start, end))
            responses.append((end, end))
        elif kind > 0:
            responses[-1] = (responses[-1][0], end)
            single.append((start, end))
        else:
            filling.append((start, end))
    sees = _sees(batch)
    return Spans(
        total=rows * length,
        prompts=tuple(prompts),
        responses=tuple(responses),
        single=tuple(single),
        filling=tuple(filling),
        sees=sees,
        prompt_mask=_prompt_mask(batch, prompts) if sees == "blocks" else None,
        last_layer=last_layer,
    )


def _sees(batch: Batch) -> Literal["causal", "two-way", "blocks"]:
    in_block = batch.block >= 0
    if not bool(in_block.any()):
        return "causal"
    prompt = batch.segment == 0
    return "two-way" if bool((batch.block == 0)[prompt].all()) else "blocks"


def _prompt_mask(batch: Batch, prompts: list[Run]) -> PromptMask:
    """The visibility of each prompt, whose first token stands for what is missing of the longest."""
    first = torch.tensor([start for start, _ in prompts])[:, None]
    lengths = torch.tensor([end - start for start, end in prompts])[:, None]
    offsets = torch.arange(int(lengths.max()))
    real = offsets < lengths
    tokens = torch.where(real, first + offsets, first)
    named = ("input_ids", "segment", "rank", "block", "group")
    # filling passes for padding, which sees itself alone
    side_by_side = {name: getattr(batch, name).flatten()[tokens].masked_fill(~real, -1) for name in named}
    alone = Batch(
        **side_by_side,
        position_ids=None,
        predictor=batch.predictor,
        target=batch.target,
        weight=batch.weight,
        response=batch.response,
        response_group=batch.response_group,
        num_groups=batch.num_groups,
    )
    return PromptMask(tokens=tokens, seen=visible(alone), real=real.flatten().nonzero()[:, 0], into=tokens[real])
