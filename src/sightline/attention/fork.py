"""Where a recurrent layer's state goes in a row in which several responses share a prompt.

A layer with a state (gated delta net, short convolution) reads a prompt once; the state at the prompt's end is forked
to each of its responses. `Fork` says, for tokens of a flattened grid, what precedes what. It travels in the layer's
mask argument, so that a recomputation in backward finds it, too.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.transfer import move_together
from sightline.types import Batch


@dataclass(frozen=True, kw_only=True)
class Fork:
    """Indices into the N = rows · length tokens of a grid; N itself stands for nothing.

    before: for shifts 1, 2, …: the token so far back in a token's own sequence, a response continuing its prompt.
    prompts: the tokens of every prompt, filled with N on the right. responses: likewise. parent: row of `prompts` that
    each response continues.
    """

    before: tuple[Int[Tensor, " tokens"], ...]
    prompts: Int[Tensor, "prompts longest_prompt"]
    responses: Int[Tensor, "responses longest_response"]
    parent: Int[Tensor, " responses"]


def fork_of(batch: Batch, reach: int) -> Fork:
    """The fork of a grid in the prefix layout. reach: how many earlier tokens a convolution reads."""
    host = batch.on_host
    group, segment = host.group.flatten(), host.segment.flatten()
    begins = (segment == 0) & (host.rank.flatten() == 0)
    length = batch.group.shape[1]
    total = len(group)
    changes = (group[1:] != group[:-1]) | (segment[1:] != segment[:-1]) | begins[1:]
    changes |= torch.arange(1, total) % length == 0
    starts = [0, *(changes.nonzero()[:, 0] + 1).tolist()]
    prompts: list[Tensor] = []
    responses: list[Tensor] = []
    parent: list[int] = []
    before = torch.full((reach, total), total)
    for start, end, kind in zip(starts, [*starts[1:], total], segment[starts].tolist(), strict=True):
        tokens = torch.arange(start, end)
        if kind == 0:
            prompts.append(tokens)
        elif kind > 0:
            responses.append(tokens)
            parent.append(len(prompts) - 1)
        else:
            continue
        # the sequence that ends with these tokens: a response continues its prompt
        sequence = tokens if kind == 0 else torch.cat([prompts[-1], tokens])
        for shift in range(1, reach + 1):
            places = torch.arange(len(sequence) - len(tokens), len(sequence)) - shift
            before[shift - 1, tokens] = torch.where(places >= 0, sequence[places.clamp(min=0)], total)
    ready = [_filled(prompts, total), _filled(responses, total), torch.tensor(parent, dtype=torch.long), *before]
    of_prompts, of_responses, of_parents, *shifts = move_together(ready, batch.input_ids.device)
    return Fork(before=tuple(shifts), prompts=of_prompts, responses=of_responses, parent=of_parents)


def _filled(rows: list[Tensor], value: int) -> Tensor:
    if not rows:
        return torch.zeros(0, 0, dtype=torch.long)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def mask_with(fork: Fork) -> Tensor:
    """An empty mask that carries the fork through the model; useless to a layer that does not look for it."""
    # where the model is: what moves a forward's arguments would make another tensor of it
    mask = torch.empty(1, 0, dtype=torch.bool, device=fork.prompts.device)
    mask.fork = fork  # pyright: ignore
    return mask


def convolved(
    states: Float[Tensor, "tokens channels"], weight: Float[Tensor, "channels kernel"], bias: Tensor | None, fork: Fork
) -> Float[Tensor, "tokens channels"]:
    """A causal convolution of each channel by itself, every token after its own predecessors.

    weight: its last column is the token's own. What comes before a sequence is zero.
    """
    padded = torch.cat([states, states.new_zeros(1, states.shape[1])])
    found = states * weight[:, -1]
    for shift, where in enumerate(fork.before, 1):
        found = found + padded[where] * weight[:, -1 - shift]
    return found if bias is None else found + bias
