"""Objectives: pure functions from token log-probabilities to losses. One paper a file; no model, trainer or I/O.

Start at `dpo.py`; `from sightline.objectives import dpo_loss` in a loop of your own (examples/dpo_loop.py).
`objective.py` makes a recipe's `objective` of them; `online/` is over sampled completions and their rewards.
"""

from sightline.objectives.aot import aot_loss, aot_unpaired_loss
from sightline.objectives.apo import apo_down_loss, apo_zero_loss
from sightline.objectives.bco import RunningRewards, bco_loss, bco_pair_loss
from sightline.objectives.cpo import cpo_loss
from sightline.objectives.ddpo import segment_weighted_mean
from sightline.objectives.dft import dft_loss
from sightline.objectives.discopop import discopop_loss
from sightline.objectives.distillation import generalized_jsd_loss, reverse_kl_loss, top_k_reverse_kl_loss
from sightline.objectives.dpo import dpo_loss
from sightline.objectives.dpop import dpop_loss
from sightline.objectives.exo import exo_pair_loss
from sightline.objectives.hinge import hinge_loss
from sightline.objectives.ipo import ipo_loss
from sightline.objectives.kto import kl_estimate, kto_loss
from sightline.objectives.ld_dpo import length_desensitised
from sightline.objectives.mdpo import anchor_loss, image_conditional_loss
from sightline.objectives.nca import nca_pair_loss
from sightline.objectives.online.advantages import batch_advantages, group_advantages, leave_one_out_advantages
from sightline.objectives.online.cispo import cispo_loss
from sightline.objectives.online.clip import clipped_loss
from sightline.objectives.online.importance import importance_weights
from sightline.objectives.online.kl import kl_by_token
from sightline.objectives.online.overlong import overlong_punishment
from sightline.objectives.online.ratio import (
    sequence_log_ratio,
    sequence_log_ratio_by_token,
    summed_log_ratio,
    token_log_ratio,
)
from sightline.objectives.online.sapo import sapo_loss
from sightline.objectives.orpo import orpo_loss
from sightline.objectives.robust import robust_loss
from sightline.objectives.rpo import rpo_term
from sightline.objectives.sft import sft_loss
from sightline.objectives.sigmoid_norm import sigmoid_norm_loss
from sightline.objectives.simpo import simpo_loss
from sightline.objectives.sppo import sppo_hard_loss
from sightline.objectives.wpo import wpo_weights

__all__ = [
    "RunningRewards",
    "anchor_loss",
    "aot_loss",
    "aot_unpaired_loss",
    "apo_down_loss",
    "apo_zero_loss",
    "batch_advantages",
    "bco_loss",
    "bco_pair_loss",
    "cispo_loss",
    "clipped_loss",
    "cpo_loss",
    "dft_loss",
    "discopop_loss",
    "dpo_loss",
    "dpop_loss",
    "exo_pair_loss",
    "generalized_jsd_loss",
    "group_advantages",
    "hinge_loss",
    "image_conditional_loss",
    "importance_weights",
    "ipo_loss",
    "kl_by_token",
    "kl_estimate",
    "kto_loss",
    "leave_one_out_advantages",
    "length_desensitised",
    "nca_pair_loss",
    "orpo_loss",
    "overlong_punishment",
    "reverse_kl_loss",
    "robust_loss",
    "rpo_term",
    "sapo_loss",
    "segment_weighted_mean",
    "sequence_log_ratio",
    "sequence_log_ratio_by_token",
    "sft_loss",
    "sigmoid_norm_loss",
    "simpo_loss",
    "sppo_hard_loss",
    "summed_log_ratio",
    "token_log_ratio",
    "top_k_reverse_kl_loss",
    "wpo_weights",
]
