"""The router loss of a mixture of experts over shared prefixes: the number that ordinary rows give.

The load-balancing loss (arXiv:2101.03961, eq. 4–6) averages over tokens, and in ordinary rows a prompt's tokens stand
once for each of its responses. In a shared row they stand once, so each counts as often as its prompt has responses
there. Models hand the mask that they were called with to the loss as the weights of tokens; these take its place.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sightline.errors import ModelError
from sightline.models.families.family import Family
from sightline.models.unwrap import forward_classes
from sightline.transfer import move_together
from sightline.types import Batch

LOSS = "load_balancing_loss_func"
"""What transformers calls it, in the file of every model that has it."""


@contextmanager
def counting_shared_tokens(family: Family, batch: Batch) -> Iterator[None]:
    """Within, the model's router loss counts the tokens of a grid as ordinary rows would.

    Raises `ModelError` for a model whose loss is not transformers' own.
    """
    module: Any = sys.modules[forward_classes(type(family.model))[0].__module__]
    plain = getattr(module, LOSS, None)
    if plain is None:
        raise ModelError(
            f"The router loss of {type(family.model).__name__} is not transformers' `{LOSS}`, so its value with a "
            "shared prefix is not known. Set `layout: padded`."
        )
    (weights,) = move_together([times_read(batch.on_host)], batch.group.device)

    def counted(logits: Any, num_experts: Any = None, top_k: Any = 2, attention_mask: Any = None) -> Any:
        return plain(logits, num_experts, top_k, weights)

    setattr(module, LOSS, counted)
    try:
        yield
    finally:
        setattr(module, LOSS, plain)


def times_read(batch: Batch) -> Int[Tensor, "rows length"]:
    """In how many ordinary rows each token of a grid would stand: a prompt's with every response, padding never."""
    rows = torch.arange(len(batch.group), device=batch.group.device)[:, None]
    prompt = (rows * batch.num_groups + batch.group).clamp(min=0)
    before = torch.nn.functional.pad(batch.segment[:, :-1], (1, 0), value=-1)
    begins = (batch.segment > 0) & (batch.segment != before)
    num_responses = torch.bincount(prompt[begins], minlength=len(rows) * batch.num_groups)
    read = torch.where(batch.segment == 0, num_responses[prompt], 1)
    return torch.where(batch.segment < 0, 0, read)
