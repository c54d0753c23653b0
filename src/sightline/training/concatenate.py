"""Log-probs of several forwards as those of one."""

from dataclasses import replace

import torch

from sightline.types import LogProbs


def concatenate(parts: list[LogProbs]) -> LogProbs:
    """The log-probs of several forwards as if they had been one."""
    responses = groups = 0
    moved = []
    for part in parts:
        moved.append(replace(part, response=part.response + responses, response_group=part.response_group + groups))
        responses += part.num_responses
        groups += part.num_groups
    optional = {
        name: torch.cat([getattr(part, name) for part in moved])
        for name in ("entropy", "top1", "mean_logit", "log_sum_sq")
        if getattr(parts[0], name) is not None
    }
    needed = {
        name: torch.cat([getattr(p, name) for p in moved]) for name in ("logp", "weight", "response", "response_group")
    }
    return LogProbs(num_groups=groups, **needed, **optional)


def concatenate_references(references: list[LogProbs | None]) -> LogProbs | None:
    """The same of a reference; None where there is none."""
    present = [part for part in references if part is not None]
    return concatenate(present) if present else None
