"""A model's shape and a typical row, and what any recipe over them needs. What was measured once is kept."""

from dataclasses import replace

import torch
from torch import nn
from transformers import PretrainedConfig

from sightline.config import Recipe
from sightline.layout import padded, prefix
from sightline.memory.activations import Activations, extrapolate, measure_activations
from sightline.memory.estimate import Estimate, Line, activation_lines, static_lines
from sightline.memory.sample import Sizes, made_up_group
from sightline.memory.skeleton import Weights, build_skeleton, decoder_layers, largest_layer, weights_of
from sightline.objectives.objective import build
from sightline.policy.families import family_of
from sightline.types import Group


class Planned:
    """Estimates for one model. group: a placed row to plan for; one of `sizes` is made up when left out."""

    def __init__(self, config: PretrainedConfig, sizes: Sizes, group: Group | None = None) -> None:
        self.config, self.sizes, self.group = config, sizes, group
        self.weights_known: dict[str, tuple[Weights, ...]] = {}
        self.activations_known: dict[str, tuple[Activations, Activations]] = {}

    def estimate(self, recipe: Recipe, *, gpus: int = 1, sharded: bool = False) -> Estimate:
        """The recipe's bytes on each of `gpus` GPUs. sharded: weights, gradients and states are spread over them."""
        return Estimate(lines=(*self.static(recipe, gpus=gpus, sharded=sharded), *self.moving(recipe, sharded=sharded)))

    def static(self, recipe: Recipe, *, gpus: int = 1, sharded: bool = False) -> list[Line]:
        """What lives from the first step to the last."""
        weights = self.weights(recipe)
        lines = static_lines(weights, recipe, needs_reference=build(recipe.objective).needs_reference)
        if sharded:
            return [replace(line, formula=f"{line.formula} / {gpus}", bytes=line.bytes // gpus) for line in lines]
        if gpus > 1:
            trained = sum(w.number for w in weights if w.trained)
            lines.append(Line(what="gradients", part="buckets of DDP", formula=f"{trained:,} × 4", bytes=4 * trained))
        return lines

    def moving(self, recipe: Recipe, *, sharded: bool = False) -> list[Line]:
        """What comes and goes in a step."""
        activations = self.activations(recipe)
        skeleton = build_skeleton(self.config, recipe)
        row = self.row(skeleton, recipe)
        objective = build(recipe.objective)
        lines = activation_lines(
            activations,
            num_layers=len(decoder_layers(skeleton)),
            num_tokens=tokens_of(row, self.layout(skeleton, recipe)) * recipe.per_device_train_batch_size,
            whole_step=recipe.gradient_accumulation_steps if objective.whole_step else 1,
        )
        step = optimiser_step(self.weights(recipe), recipe)
        if step > activations.peak:
            more = step - activations.peak
            lines.append(Line(what="activations", part="optimizer step", formula="roots of all variances", bytes=more))
        size = largest_layer(skeleton)
        if recipe.model.quantize != "none":
            lines.append(Line(what="activations", part="one layer's weights", formula="in bfloat16", bytes=size.linear))
        if sharded:
            lines.append(
                Line(what="activations", part="two layers, gathered", formula="of all GPUs", bytes=2 * size.layer)
            )
        return lines

    def weights(self, recipe: Recipe) -> tuple[Weights, ...]:
        """The parameters of the recipe's policy, by part."""
        key = repr((recipe.model, recipe.lora, recipe.use_cpu))
        if key not in self.weights_known:
            self.weights_known[key] = tuple(
                weights_of(build_skeleton(self.config, recipe), quantised=recipe.model.quantize != "none")
            )
        return self.weights_known[key]

    def activations(self, recipe: Recipe) -> Activations:
        """What a micro-batch holds: those of one and of two rows are run, the others lie on their line."""
        model = replace(recipe.model, quantize="none", dtype=recipe.model.dtype)
        key = repr((model, recipe.lora, recipe.layout, autocast_dtype(recipe), recipe.gradient_checkpointing))
        if key not in self.activations_known:
            self.activations_known[key] = self._measured(recipe)
        one, two = self.activations_known[key]
        return extrapolate(one, two, float(recipe.per_device_train_batch_size - 1))

    def _measured(self, recipe: Recipe) -> tuple[Activations, Activations]:
        skeleton = build_skeleton(self.config, recipe)
        return measure_activations(
            skeleton,
            self.row(skeleton, recipe),
            layout=self.layout(skeleton, recipe),
            autocast=autocast_dtype(recipe),
        )

    def row(self, skeleton: nn.Module, recipe: Recipe) -> Group:
        """The row that is planned for."""
        return self.group or made_up_group(family_of(skeleton), self.sizes, recipe.model.processor)

    def layout(self, skeleton: nn.Module, recipe: Recipe) -> str:
        """The layout of the run, `auto` resolved."""
        return family_of(skeleton).layout if recipe.layout == "auto" else recipe.layout


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
