"""Which responses are desirable: by the column `label`, or, in pairs, the chosen ones."""

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.errors import DataError
from sightline.objectives.roles import ORDINARY
from sightline.types import Group, LogProbs


def desirable_of_group(group: Group) -> Bool[Tensor, " responses"]:
    """Which responses of a group are ordinary and desirable. Raises `DataError` where nothing says so."""
    num = len(group.responses)
    role = group.extra.get("role", torch.full((num,), ORDINARY))
    ordinary = role == ORDINARY
    if "label" in group.extra:
        return ordinary & group.extra["label"].bool()
    if int(ordinary.sum()) % 2 == 1:
        raise DataError(
            f"{group.id}: a single response without a label. Objectives over labelled responses need a column `label` "
            "(true for a desirable response), or rows with `chosen` and `rejected`."
        )
    position = ordinary.long().cumsum(0) - 1
    return ordinary & (position % 2 == 0)


def desirable(policy: LogProbs, label: Tensor | None) -> Bool[Tensor, " responses"]:
    """Which of these ordinary responses are desirable. label: the column for all of them, or None for pairs."""
    if label is not None:
        return label.bool()
    return torch.arange(policy.num_responses, device=policy.logp.device) % 2 == 0
