"""Is the shared prefix exact with this model? Asked once, on a real group, before training starts.

A mask in the wrong form, a window that is not seen, a layer that knows no mask (linear attention): all of them give
wrong log-probs without an error, so nothing but a comparison with the plain layout finds them.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.forward import plain
from sightline.forward.features import Features, encode
from sightline.forward.forward import log_probs
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.unwrap import in_eval_mode
from sightline.types import Batch, Group

SMALLEST_ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Log-prob differences below this are rounding, whatever two plain forwards differ by."""


class Comparison(NamedTuple):
    """difference: largest |log p − log p padded| of a token, in nats. allowed: what counts as rounding."""

    difference: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.difference <= self.allowed


@torch.no_grad()
def compare_layouts(model: nn.Module, groups: list[Group]) -> Comparison:
    """Score placed groups in both layouts, in evaluation mode.

    allowed is 4 times what two paddings of the plain forward differ by: all responses in one padded batch, and each
    response alone. Groups should have an image and at least two responses; others show less.
    """
    with in_eval_mode(model):
        features = encode(model, groups)
        repeated = _score(model, padded.lay_out(groups), groups, features)
        shared = _score(model, prefix.lay_out(groups), groups, features)
        alone = torch.cat(
            [
                _score(model, padded.lay_out([one]), [one], features.select([g]) if features else None)
                for g, group in enumerate(groups)
                for one in (group.keep([k]) for k in range(len(group.responses)))
            ]
        )
    return Comparison(
        difference=float((shared - repeated).abs().max()),
        allowed=max(4 * float((alone - repeated).abs().max()), _rounding(model)),
    )


@torch.no_grad()
def compare_with_own(model: nn.Module, group: Group) -> Comparison:
    """Score a group in the padded layout and by ordinary calls of the model, which know nothing of Sightline."""
    family = family_of(model)
    with in_eval_mode(model):
        padded_logp = _score(model, padded.lay_out([group]), [group], encode(model, [group]))
        given = replace(group, model_inputs=family.inputs_of(group))
        own = torch.cat(plain.log_probs(family.model, given, family.name))
    return Comparison(difference=float((own - padded_logp).abs().max()), allowed=4 * _rounding(model))


def _rounding(model: nn.Module) -> float:
    """Differences below this are rounding in the model's precision."""
    weight = next(family_of(model).model.get_decoder().parameters())
    autocast = torch.is_autocast_enabled(weight.device.type)
    return SMALLEST_ALLOWED[torch.get_autocast_dtype(weight.device.type) if autocast else weight.dtype]


def _score(model: nn.Module, batch: Batch, groups: list[Group], features: Features | None) -> Float[Tensor, " targets"]:
    return log_probs(model, batch, groups=groups, features=features).logp
