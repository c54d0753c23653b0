"""Cut a step into micro-batches: memory and speed change, the curve does not."""

from sightline.layout.packing import first_fit_decreasing
from sightline.types import Group


def cut(
    groups: list[Group], *, groups_per_forward: int, shared_prefix: bool = True, limit: int | None = None
) -> list[list[Group]]:
    """Micro-batches of at most as many tokens as `groups_per_forward` groups of the step's longest have.

    Several short groups thus share a forward that a long one fills alone. Every group is in exactly one micro-batch.
    limit: tokens that none of several groups exceeds; a longer group is alone.
    """
    sizes = [tokens_in_grid(group, shared_prefix=shared_prefix) for group in groups]
    return [[groups[i] for i in bin_] for bin_ in bins(sizes, groups_per_forward=groups_per_forward, limit=limit)]


def bins(sizes: list[int], *, groups_per_forward: int, limit: int | None = None) -> list[list[int]]:
    """The same for groups of so many tokens each: which of them are together."""
    if not sizes:
        return []  # this process has none of the step's rows
    budget = groups_per_forward * max(sizes)
    if limit is not None:
        budget = min(budget, limit)
    return first_fit_decreasing(sizes, budget)


def tokens_in_grid(group: Group, *, shared_prefix: bool) -> int:
    """Tokens that a forward computes for this group: P + ΣC with a shared prefix, Σ(P + C) without."""
    companions = sum(tokens_in_grid(companion, shared_prefix=shared_prefix) for companion in group.companions)
    if shared_prefix:
        return companions + group.num_tokens
    return companions + sum(len(group.prompt_ids) + len(response) for response in group.responses)
