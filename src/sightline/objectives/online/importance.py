"""Importance weights where the sampler's log-probs are not quite the trainer's (truncated importance sampling).

    w = π_old / π_sampler, of each token or of the whole completion (Σ of its log-ratios), then
    truncate: min(w, cap)      mask: 0 where w is above the cap

A token whose sampler log-prob is NaN (not reported) has weight 1. The weights carry no gradient.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.objectives.online.clip import bounded_ratio
from sightline.types import LogProbs

Mode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


def importance_weights(
    old: LogProbs, sampler_logp: Float[Tensor, " targets"], *, mode: Mode, cap: float, floor: float = 0.0
) -> Float[Tensor, " targets"]:
    """The weight of each token's loss.

    old: log-probs by the trainer's weights that sampled. sampler_logp: what the sampler said, nats.
    floor: weights below it are raised to it, or masked.
    """
    log_weight = (old.logp.detach() - sampler_logp).nan_to_num(nan=0.0, posinf=None, neginf=None)
    if mode.startswith("sequence"):
        log_weight = old.per_response(log_weight)[old.response]
    weight = bounded_ratio(log_weight)
    if mode.endswith("truncate"):
        return weight.clamp(floor, cap)
    return torch.where((weight < floor) | (weight > cap), torch.zeros_like(weight), weight)
