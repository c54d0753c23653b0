"""What fits: the cheapest changes of a recipe that bring its peak under a GPU's memory.

Changes that leave the curve as it is come first, however much time they cost; then 8-bit optimizer states; then LoRA
instead of all weights; then 8 and 4 bits. Among equals the faster one is taken.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch

from sightline.config import LoraConfig, Recipe
from sightline.config.engine import refused_with_sharding
from sightline.errors import RecipeError
from sightline.memory.estimate import reference_mode
from sightline.memory.estimator import Estimator
from sightline.objectives.objective import build

RESERVE = 10**9
"""Bytes of a GPU left to the CUDA context and the libraries' workspaces."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change of a recipe.

    fields: dotted recipe keys → new values. departs: how far the run becomes another run (0: same curve).
    slower: share of time that it costs. why: for the reader.
    """

    why: str
    fields: dict[str, Any]
    departs: int = 0
    slower: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A recipe that fits, and the changes that got there (none where it fitted already)."""

    recipe: Recipe
    changes: tuple[Change, ...]
    peak: int

    @property
    def fields(self) -> dict[str, Any]:
        """All changed keys."""
        return {key: value for change in self.changes for key, value in change.fields.items()}


def find_fit(estimator: Estimator, recipe: Recipe, *, capacity: int, gpus: int = 1) -> Fit | None:
    """The cheapest changes that bring the recipe's peak to at most `capacity` bytes a GPU; None where none do."""
    for changes in sorted(combinations(recipe, gpus), key=_cost):
        changed = apply(recipe, changes)
        if not engine_trains(changed):
            continue
        if sum(line.bytes for line in estimator.static(changed, gpus=gpus)) > capacity:
            continue
        peak = estimator.estimate(changed, gpus=gpus).peak
        if peak <= capacity:
            return Fit(recipe=changed, changes=changes, peak=peak)
    return None


def engine_trains(recipe: Recipe) -> bool:
    """Whether the recipe's engine does what it asks: FSDP2 and ZeRO take no quantized weights, no 8-bit states."""
    return recipe.engine in ("auto", "ddp") or refused_with_sharding(recipe) is None


def combinations(recipe: Recipe, gpus: int) -> Iterator[tuple[Change, ...]]:
    """Every sensible set of changes, the empty one included: one option of each kind at most."""
    of_weights = [_optimizers(recipe), _references(recipe)] if recipe.lora is None else []
    kinds = (_batches(recipe), _checkpointing(recipe), _adapters(recipe), _sharding(recipe, gpus), *of_weights)
    for chosen in product(*([None, *kind] for kind in kinds)):
        changes = tuple(change for change in chosen if change is not None)
        becomes_adapter = any("lora" in change.fields for change in changes)
        # an adapter's states and reference are too small to save on
        if not (becomes_adapter and any(chosen[len(kinds) - len(of_weights) :])):
            yield changes


def apply(recipe: Recipe, changes: tuple[Change, ...]) -> Recipe:
    """The recipe with the changes made."""
    for change in changes:
        for key, value in change.fields.items():
            group, _, name = key.rpartition(".")
            if group:
                recipe = replace(recipe, **{group: replace(getattr(recipe, group), **{name: value})})
            else:
                recipe = replace(recipe, **{name: LoraConfig(**value) if name == "lora" else value})
    return recipe


def _cost(changes: tuple[Change, ...]) -> tuple[int, float, int]:
    return (max((c.departs for c in changes), default=0), sum((c.slower for c in changes), 0.0), len(changes))


def _batches(recipe: Recipe) -> list[Change]:
    """Smaller micro-batches, more of them: the step sees the same rows."""
    rows = recipe.per_device_train_batch_size
    return [
        Change(
            why=f"{factor} times smaller micro-batches, as many more of them; the same step and curve",
            fields={
                "per_device_train_batch_size": rows // factor,
                "gradient_accumulation_steps": recipe.gradient_accumulation_steps * factor,
            },
            slower=0.02 * factor,
        )
        for factor in range(2, rows + 1)
        if rows % factor == 0
    ]


def _checkpointing(recipe: Recipe) -> list[Change]:
    if recipe.gradient_checkpointing is True:
        return []
    why = "layers are computed again in backward instead of kept; the same curve, about a third more time"
    whole = Change(why=why, fields={"gradient_checkpointing": True}, slower=0.33)
    if recipe.gradient_checkpointing == "selective":
        return [whole]
    why = "half of every layer is computed again in backward instead of kept; the same curve, some more time"
    return [Change(why=why, fields={"gradient_checkpointing": "selective"}, slower=0.2), whole]


def _optimizers(recipe: Recipe) -> list[Change]:
    if recipe.optim != "adamw_torch":
        return []
    fused = "the fused AdamW needs no second copy of the variances while it steps; the same update, faster"
    eight = "AdamW's states in 8 bits (bitsandbytes); nearly the same curve"
    return [
        Change(why=fused, fields={"optim": "adamw_torch_fused"}, slower=0.001),
        Change(why=eight, fields={"optim": "paged_adamw_8bit"}, departs=1, slower=0.02),
    ]


def _references(recipe: Recipe) -> list[Change]:
    if not build(recipe.objective).needs_reference or reference_mode(recipe) != "frozen-copy":
        return []
    why = "the reference's log-probs are computed once and read from disk; the same curve"
    return [Change(why=why, fields={"reference.type": "precomputed"}, slower=0.05)]


def _adapters(recipe: Recipe) -> list[Change]:
    """LoRA, and the frozen weights in fewer bits."""
    if recipe.model.quantize != "none":
        return []
    int8 = {"model.quantize": "int8"}
    nf4 = {"model.quantize": "nf4"}
    if recipe.lora is not None:
        return [
            Change(why="frozen layers in 8 bits", fields=int8, departs=3, slower=0.3),
            Change(why="frozen layers in 4 bits (NF4)", fields=nf4, departs=4, slower=0.25),
        ]
    # an adapter has no place beside whole weights that train
    whole = [name for name in ("freeze_vision", "freeze_projector") if not getattr(recipe.model, name)]
    lora = {f"model.{name}": True for name in whole} | {"lora": {"r": 16}, "reference.type": "auto"}
    rate = _rate_for_an_adapter(recipe.learning_rate)
    return [
        Change(why=f"train an adapter; the reference is the model without it; {rate}", fields=lora, departs=2),
        Change(why=f"an adapter on frozen layers in 8 bits; {rate}", fields=lora | int8, departs=3, slower=0.3),
        Change(why=f"an adapter on frozen layers in 4 bits (NF4); {rate}", fields=lora | nf4, departs=4, slower=0.25),
    ]


def _rate_for_an_adapter(learning_rate: float) -> str:
    """In words: the planner leaves the rate as it is, because no memory hangs on it."""
    if learning_rate >= 1e-5:
        return "not the same curve"
    return (
        f"not the same curve, and it hardly moves at `learning_rate` {learning_rate:g}, one for full weights: an "
        "adapter wants ten times as much or more (1e-5 is usual)"
    )


def _sharding(recipe: Recipe, gpus: int) -> list[Change]:
    if gpus == 1 or recipe.engine in ("fsdp2", "zero3"):
        return []
    why = f"weights, gradients and states sharded over {gpus} GPUs (FSDP2); the same curve"
    return [Change(why=why, fields={"engine": "fsdp2"}, slower=0.2)]


UNITS = {"m": 10**6, "g": 10**9, "mi": 2**20, "gi": 2**30}


def read_size(text: str) -> int:
    """`80GB`, `80G` or `80` → bytes. Raises RecipeError.

    GB are 10⁹ bytes: a card sold as 80 GB has some 85 × 10⁹, and the rest is room for the allocator's gaps.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([mg]i?)b?)?\s*", text.lower())
    if found is None or float(found[1]) == 0:
        raise RecipeError(f"`--gpu {text}` is no size of a GPU's memory. Write `--gpu 80GB` or `--gpu 24GiB`.")
    return int(float(found[1]) * UNITS[found[2] or "g"])


def memory_here() -> int | None:
    """Bytes of this machine's first GPU, None where there is none."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
