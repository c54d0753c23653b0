"""A model's shape and a typical row, and what any recipe over them needs. What was measured once is kept."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn
from transformers import PretrainedConfig

from sightline.config import Recipe
from sightline.config.engine import SHARD_WEIGHTS
from sightline.layout import padded, prefix
from sightline.memory.activations import Activations, extrapolate, measure_activations
from sightline.memory.estimate import Estimate, Line, activation_lines, static_lines
from sightline.memory.sample import Sizes, made_up_group
from sightline.memory.sharded import sharded_lines
from sightline.memory.skeleton import Bare, Skeleton, Weights, adapt, build_bare, frozen_dtype, weights_of
from sightline.models.families.find import family_of
from sightline.objectives.objective import build
from sightline.types import Group


class Shape(NamedTuple):
    """Layers of the language model, weights of the largest matrix in one, tokens of a row in the grid, the row."""

    num_layers: int
    matrix: int
    num_tokens: int
    row: Group


class Estimator:
    """Estimates for one model. group: a placed row to plan for; one of `sizes` is made up when left out."""

    def __init__(self, config: PretrainedConfig, sizes: Sizes, group: Group | None = None) -> None:
        self.config, self.sizes, self.group = config, sizes, group
        self.bare_models: dict[str, Bare] = {}
        self.skeletons: dict[str, Skeleton] = {}
        self.shapes_known: dict[str, Shape] = {}
        self.weights_known: dict[str, tuple[Weights, ...]] = {}
        self.activations_known: dict[str, tuple[Activations, Activations]] = {}

    def estimate(self, recipe: Recipe, *, gpus: int = 1) -> Estimate:
        """The recipe's bytes on each of `gpus` GPUs."""
        return Estimate(lines=(*self.static(recipe, gpus=gpus), *self.moving(recipe, gpus=gpus)))

    def static(self, recipe: Recipe, *, gpus: int = 1) -> list[Line]:
        """What lives from the first step to the last."""
        weights = self.weights(recipe)
        lines = static_lines(weights, recipe, needs_reference=build(recipe.objective).needs_reference)
        if is_sharded(recipe, gpus):
            towers = [w for w in weights if w.part in ("vision tower", "projector")]
            excluded = {w.part for w in towers if not w.trained}
            copied = sum(4 * w.number for w in towers if w.trained)

            def whole_of(line: Line) -> int:
                if line.what == "reference":
                    return min(copied, line.bytes) if recipe.engine == "fsdp2" else line.bytes
                return line.bytes if line.part in excluded else 0

            return [_share(line, whole_of(line), gpus) for line in lines]
        if gpus > 1:
            trained = sum(w.number for w in weights if w.trained)
            lines.append(Line(what="gradients", part="buckets of DDP", formula=f"{trained:,} × 4", bytes=4 * trained))
        return lines

    def moving(self, recipe: Recipe, *, gpus: int = 1) -> list[Line]:
        """What comes and goes in a step."""
        activations, shape = self.activations(recipe), self.shape(recipe)
        objective = build(recipe.objective)
        lines = activation_lines(
            activations,
            num_layers=shape.num_layers,
            num_tokens=shape.num_tokens * recipe.per_device_train_batch_size,
            full_batch=recipe.gradient_accumulation_steps if objective.full_batch else 1,
        )
        if recipe.model.quantize != "none":
            unpacked = 2 * shape.matrix
            lines.append(Line(what="activations", part="one layer's weights", formula="in bfloat16", bytes=unpacked))
        if is_sharded(recipe, gpus):
            lines += sharded_lines(self.skeleton(recipe))
        step = optimiser_step(self.weights(recipe), recipe) // (gpus if is_sharded(recipe, gpus) else 1)
        more = step - sum(line.bytes for line in lines)
        if more > 0:
            lines.append(Line(what="activations", part="optimizer step", formula="roots of all variances", bytes=more))
        return lines

    def weights(self, recipe: Recipe) -> tuple[Weights, ...]:
        """The parameters of the recipe's policy, by part."""
        key = repr((self._kind(recipe), recipe.model.quantize_parts))
        if key not in self.weights_known:
            self.weights_known[key] = tuple(weights_of(self.skeleton(recipe), parts=recipe.model.quantize_parts))
        known = self.weights_known[key]
        return known if recipe.model.quantize != "none" else tuple(whole(known))

    def shape(self, recipe: Recipe) -> Shape:
        """What the recipe's layers and rows are like."""
        key = repr((recipe.layout, recipe.model.processor))
        if key not in self.shapes_known:
            skeleton = self.skeleton(recipe)
            row = self.row(skeleton.policy, recipe)
            self.shapes_known[key] = Shape(
                num_layers=skeleton.num_layers,
                matrix=skeleton.matrix,
                num_tokens=tokens_of(row, self.layout(skeleton.policy, recipe)),
                row=row,
            )
        return self.shapes_known[key]

    def activations(self, recipe: Recipe) -> Activations:
        """What a micro-batch holds: those of one and of two rows are run, the others lie on their line."""
        settings = (recipe.layout, recipe.model.processor, autocast_dtype(recipe), recipe.gradient_checkpointing)
        key = repr((self._kind(recipe), settings))
        if key not in self.activations_known:
            self.activations_known[key] = self._measured(recipe)
        one, two = self.activations_known[key]
        return extrapolate(one, two, float(recipe.per_device_train_batch_size - 1))

    def _measured(self, recipe: Recipe) -> tuple[Activations, Activations]:
        # one of its own: a measured skeleton is used up
        skeleton = adapt(self._bare(recipe), recipe)
        return measure_activations(
            skeleton,
            self.shape(recipe).row,
            layout=self.layout(skeleton.policy, recipe),
            autocast=autocast_dtype(recipe),
        )

    def skeleton(self, recipe: Recipe) -> Skeleton:
        """The recipe's policy without weights, to be counted."""
        key = self._kind(recipe)
        if key not in self.skeletons:
            self.skeletons[key] = adapt(self._bare(recipe), recipe)
        return self.skeletons[key]

    def _bare(self, recipe: Recipe) -> Bare:
        key = repr((frozen_dtype(recipe), recipe.model.attn_implementation))
        if key not in self.bare_models:
            self.bare_models[key] = build_bare(self.config, recipe)
        return self.bare_models[key]

    def _kind(self, recipe: Recipe) -> str:
        """What decides how a policy's weights are shaped, stored and trained."""
        return repr((frozen_dtype(recipe), recipe.model.attn_implementation, recipe.lora, unfrozen(recipe)))

    def row(self, policy: nn.Module, recipe: Recipe) -> Group:
        """The row that is planned for."""
        return self.group or made_up_group(family_of(policy), self.sizes, recipe.model.processor)

    def layout(self, policy: nn.Module, recipe: Recipe) -> str:
        """The layout of the run, `auto` resolved."""
        return family_of(policy).layout if recipe.layout == "auto" else recipe.layout


def _share(line: Line, whole: int, gpus: int) -> Line:
    """What one of so many GPUs has of it, where `whole` bytes are on each."""
    if line.bytes == whole:
        return line
    return replace(line, formula=f"{line.formula} / {gpus}", bytes=whole + (line.bytes - whole) // gpus)


def is_sharded(recipe: Recipe, gpus: int) -> bool:
    """Whether weights, gradients and states are sharded over processes.

    Frozen towers and projectors are excluded from sharding, and under ZeRO-3 a copy as reference. ZeRO-1 and 2, which
    shard less, are counted as if nothing were sharded: a bound from above.
    """
    return recipe.engine in SHARD_WEIGHTS and gpus > 1


def unfrozen(recipe: Recipe) -> tuple[bool, bool] | None:
    """Which parts a recipe without adapter trains besides the language model."""
    return None if recipe.lora is not None else (recipe.model.freeze_vision, recipe.model.freeze_projector)


def whole(weights: tuple[Weights, ...]) -> list[Weights]:
    """Weights that nobody quantises: those that could be and those that could not, together."""
    numbers: dict[Weights, int] = {}
    for one in weights:
        kind = replace(one, quantisable=False, number=0)
        numbers[kind] = numbers.get(kind, 0) + one.number
    return [replace(kind, number=number) for kind, number in numbers.items()]


def optimiser_step(weights: tuple[Weights, ...], recipe: Recipe) -> int:
    """Bytes that torch's AdamW takes while it steps on a GPU: √v of every trained weight at once, unless fused."""
    if recipe.use_cpu or recipe.optim != "adamw_torch":
        return 0
    return 4 * sum(w.number for w in weights if w.trained)


def tokens_of(group: Group, layout: str) -> int:
    """Tokens of a group's rows in the grid."""
    lay_out = prefix.lay_out if layout == "prefix" else padded.lay_out
    return lay_out([group]).input_ids.numel()


def autocast_dtype(recipe: Recipe) -> torch.dtype | None:
    """The precision of matrix products, None where they keep that of their weights."""
    if recipe.bf16 is None:
        return None if recipe.use_cpu else torch.bfloat16
    return torch.bfloat16 if recipe.bf16 else None
