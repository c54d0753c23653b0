"""In how many bits a base's frozen weights are kept: an adapter answers on the weights that it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sightline.config import ModelConfig, Recipe
from sightline.files import RECIPE
from sightline.recipe import load_recipe


class Bits(NamedTuple):
    """`quantize`, `double_quantize` and `quantize_parts` of a recipe's `model`."""

    quantize: str = "none"
    double_quantize: bool = True
    quantize_parts: tuple[str, ...] = ("language",)

    def fields(self) -> dict[str, Any]:
        """For a `ModelConfig`; empty where weights are whole."""
        return {} if self == WHOLE else {**self._asdict(), "quantize_parts": list(self.quantize_parts)}

    def __str__(self) -> str:
        """For people."""
        if self == WHOLE:
            return "whole"
        single = ", scales not quantised" if self.quantize == "nf4" and not self.double_quantize else ""
        return f"{self.quantize} ({', '.join(self.quantize_parts)}{single})"


WHOLE = Bits()


def recipe_of(folder: Path) -> Recipe | None:
    """The recipe of a run, also of its best weights and its checkpoints; None for an adapter from elsewhere."""
    inside = folder.name == "best" or folder.name.startswith("checkpoint-")
    found = [path for path in (folder, folder.absolute().parent)[: 1 + inside] if (path / RECIPE).is_file()]
    return load_recipe(found[0] / RECIPE) if found else None


def bits_of(model: ModelConfig) -> Bits:
    """What a recipe says."""
    if model.quantize == "none":
        return WHOLE
    return Bits(model.quantize, model.double_quantize or model.quantize != "nf4", tuple(model.quantize_parts))


def bits_note(bits: Mapping[str, Bits]) -> str | None:
    """One sentence on whose weights are kept in fewer bits, by label; None where all are whole."""
    if all(kept == WHOLE for kept in bits.values()):
        return None
    kinds = {str(kept): [label for label, other in bits.items() if other == kept] for kept in bits.values()}
    said = "; ".join(f"{kind} for {', '.join(labels)}" for kind, labels in kinds.items())
    return f"Weights are kept as their runs were trained: {said}."
