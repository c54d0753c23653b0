"""The load-balancing loss of a mixture of experts, beside whatever the objective is.

It is the mean over micro-batches, weighted by their groups, as in TRL with accumulation; it is not linear in tokens, so
that it (and nothing else) depends on how a step is cut.
"""

from torch import Tensor

from sightline.training.metrics import Means
from sightline.types import LogProbs


def with_router_loss(loss: Tensor, policy: LogProbs, share: float, means: Means) -> Tensor:
    """The loss and what the routers add to it; the same loss for a model without.

    share: of the step's groups in this micro-batch. The logged loss is the objective's alone, `aux_loss` is the rest.
    """
    if policy.router_loss is None:
        return loss
    means.add({"aux_loss": (policy.router_loss.detach() * share, share)})
    return loss + policy.router_loss * share
