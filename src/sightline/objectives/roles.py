"""Which responses of a step are what: `Columns.role` numbers them; where it is None all are ordinary.

A method that needs more than its K responses adds auxiliary ones to the step:
MISMATCHED   another prompt's answer, from which KTO estimates the KL divergence;
CORRUPTED    mDPO's chosen answer on the corrupted image; the k-th of a call belongs to its k-th pair.
"""

from dataclasses import fields, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.types import Columns, Group, LogProbs

ORDINARY, MISMATCHED, CORRUPTED = 0, 1, 2


def of_role(logprobs: LogProbs, columns: Columns, role: int) -> LogProbs:
    """Only the responses of a role, numbered anew in their order."""
    if columns.role is None:
        return logprobs if role == ORDINARY else keep(logprobs, torch.zeros_like(logprobs.response_group).bool())
    return keep(logprobs, columns.role == role)


def keep(logprobs: LogProbs, responses: Bool[Tensor, " responses"]) -> LogProbs:
    """Only some responses, numbered anew in their order."""
    kept = responses.nonzero()[:, 0]  # its length is known afterwards: the host waits once here, and once for tokens
    if len(kept) == len(responses):
        return logprobs
    tokens = responses[logprobs.response].nonzero()[:, 0]
    number = responses.long().cumsum(0) - 1
    per_token = {
        f.name: value[tokens]
        for f in fields(logprobs)
        if isinstance(value := getattr(logprobs, f.name), Tensor) and f.name not in ("response", "response_group")
    }
    return replace(
        logprobs,
        **per_token,
        response=number[logprobs.response[tokens]],
        response_group=logprobs.response_group[kept],
    )


def ordinary_of(group: Group) -> Bool[Tensor, " responses"]:
    """Which responses of a group are ordinary."""
    role = group.columns.role
    return torch.ones(len(group.responses), dtype=torch.bool) if role is None else role == ORDINARY


def num_of_role(group: Group, role: int) -> int:
    """How many responses of a group have this role."""
    if group.columns.role is None:
        return len(group.responses) if role == ORDINARY else 0
    return int((group.columns.role == role).sum())
