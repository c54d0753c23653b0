"""A recipe's memory, line by line: what, of which part, by which formula, how many bytes. Pure arithmetic.

Counted as Sightline trains: frozen weights in the recipe's precision; trained ones, their gradients and AdamW's states
in float32; a reference that is the adapter switched off needs no weights of its own.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from sightline.config import ModelConfig, Recipe
from sightline.memory.activations import Activations
from sightline.memory.skeleton import Weights

What = Literal["weights", "reference", "gradients", "optimiser", "activations"]


def bits(model: ModelConfig) -> float:
    """A quantised weight's: NF4 has a 32-bit scale for every 64 weights, or, quantised twice, an 8-bit one, and a
    32-bit one for every 256 of those."""
    if model.quantize == "int8":
        return 8.0
    return 4 + (8 / 64 + 32 / (64 * 256) if model.double_quantize else 32 / 64)


STATES: dict[str, float] = {
    "adamw_torch": 8,
    "adamw_torch_fused": 8,
    "adamw_8bit": 2 + 8 / 256,
    "adamw_bnb_8bit": 2 + 8 / 256,
    "paged_adamw_8bit": 2 + 8 / 256,
    "paged_adamw_32bit": 8,
    "lion_32bit": 4,
    "lion_8bit": 1 + 4 / 256,
    "sgd": 0,
}
"""Bytes of optimiser states a trained weight. Paged states may move to the host's memory; they are counted here. An
optimizer that is not here is counted as adamw_torch, and its line says so."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Some bytes, and where they come from."""

    what: What
    part: str
    formula: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """All lines of a recipe on one GPU. They add up to the peak."""

    lines: tuple[Line, ...]

    @property
    def peak(self) -> int:
        return sum(line.bytes for line in self.lines)

    def of(self, what: What) -> int:
        """Bytes of one kind."""
        return sum(line.bytes for line in self.lines if line.what == what)


def static_lines(weights: tuple[Weights, ...], recipe: Recipe, *, needs_reference: bool) -> list[Line]:
    """What lives from the first step to the last: weights, reference, gradients, optimiser states."""
    lines = [_weight_line(w, recipe) for w in weights]
    if needs_reference:
        lines.append(_reference_line(weights, recipe))
    counted = recipe.optim if recipe.optim in STATES else "adamw_torch"
    name = counted if counted == recipe.optim else f"{recipe.optim}, counted as {counted}"
    for w in (w for w in weights if w.trained):
        lines += [
            Line(what="gradients", part=w.part, formula=f"{w.number:,} × 4", bytes=w.number * 4),
            Line(
                what="optimiser",
                part=w.part,
                formula=f"{w.number:,} × {STATES[counted]:g} ({name})",
                bytes=round(w.number * STATES[counted]),
            ),
        ]
    return lines


def _weight_line(weights: Weights, recipe: Recipe) -> Line:
    quantised = recipe.model.quantize != "none" and weights.quantisable
    per_weight = bits(recipe.model) / 8 if quantised else weights.dtype.itemsize
    name = recipe.model.quantize if quantised else spelled_dtype(weights.dtype)
    state = "trained" if weights.trained else "frozen"
    return Line(
        what="weights",
        part=weights.part,
        formula=f"{weights.number:,} × {per_weight:.4g} ({name}, {state})",
        bytes=round(weights.number * per_weight),
    )


def _reference_line(weights: tuple[Weights, ...], recipe: Recipe) -> Line:
    mode = reference_mode(recipe)
    if mode == "adapter-off":
        return Line(what="reference", part="", formula="the policy with its adapter switched off", bytes=0)
    if mode == "precomputed":
        return Line(what="reference", part="", formula="log-probs on disk, computed before training", bytes=0)
    if mode == "teacher":
        total = sum(w.number for w in weights)
        each = {"none": 2.0, "int8": 1.0, "nf4": 0.55}[recipe.reference.quantize]
        formula = f"{total:,} × {each:g} (a teacher of the student's size; what a larger one has more comes besides)"
        return Line(what="reference", part="", formula=formula, bytes=round(total * each))
    trained = sum(w.number for w in weights if w.trained)
    return Line(
        what="reference",
        part="",
        formula=f"{trained:,} × 4 (a copy of what is trained; the rest is shared)",
        bytes=trained * 4,
    )


def reference_mode(recipe: Recipe) -> str:
    """How the reference is kept, `auto` resolved."""
    if recipe.reference.type == "last-round":
        return "frozen-copy"
    if recipe.reference.type != "auto":
        return recipe.reference.type
    lora = recipe.lora
    # one that is trained further, or starts from the singular values, is part of where the policy starts
    switches_off = lora is not None and lora.adapter is None and lora.init != "pissa"
    return "adapter-off" if switches_off and recipe.reference.update_every is None else "frozen-copy"


def activation_lines(activations: Activations, *, num_layers: int, num_tokens: int, full_batch: int) -> list[Line]:
    """What a micro-batch adds. num_tokens: in its grid. full_batch: micro-batches whose features are kept at once."""
    each = round(activations.layers / (num_layers * num_tokens))
    lines = [
        ("images' features", "of frozen tower and projector", activations.features * full_batch),
        ("copies", "of trained weights in autocast's precision", activations.copies),
        ("layers", f"{num_layers} layers × {num_tokens:,} tokens × {each:,}", activations.layers),
        ("log-prob head", "one row a target, no logits", activations.head),
        ("working space", "of one layer, the head or the tower", activations.working),
    ]
    return [Line(what="activations", part=p, formula=f, bytes=b) for p, f, b in lines if b > 0]


def spelled_dtype(dtype: torch.dtype) -> str:
    """`bfloat16`."""
    return str(dtype).removeprefix("torch.")
