"""A loss of your own over pairs: DPO whose margin also has to exceed a target, with its own option `target`.

    sightline train --model embedded --data scenes --lora --max-steps 20 \
        --objective.type examples/own_objective.py:dpo_with_target --objective.target 0.5

The function is pure: summed log-probs in, one loss per pair out; Sightline averages over the step. It takes by name
what it reads, and gets its own options from the recipe.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo_with_target(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float,
    target: float = 0.0,
) -> Tensor:
    """−log σ(β·margin − target) of each pair [pairs]; with target 0 it is DPO's loss (arXiv:2305.18290, eq. 7)."""
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -logsigmoid(beta * margin - target)
