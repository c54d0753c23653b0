"""Which responses are desirable: by the column `label`, or, in pairs, the chosen ones."""

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.errors import DataError
from sightline.objectives.roles import ordinary_of
from sightline.types import Group, LogProbs


def desirable_of_group(group: Group) -> Bool[Tensor, " responses"]:
    """Which responses of a group are ordinary and desirable. Raises `DataError` where nothing says so."""
    ordinary, label = ordinary_of(group), group.columns.label
    if label is not None:
        return ordinary & label
    num = int(ordinary.sum())
    # rows that share their images may be single responses too
    if num % 2 == 1 or num == len(group.rows):
        raise DataError(
            f"{group.id}: a single response without a label. Objectives over labelled responses need a column `label` "
            "(true for a desirable response), or rows with `chosen` and `rejected`."
        )
    position = ordinary.long().cumsum(0) - 1
    return ordinary & (position % 2 == 0)


def desirable(policy: LogProbs, label: Bool[Tensor, " responses"] | None) -> Bool[Tensor, " responses"]:
    """Which of these ordinary responses are desirable. label: the column for all of them, or None for pairs."""
    if label is not None:
        return label
    return torch.arange(policy.num_responses, device=policy.logp.device) % 2 == 0
