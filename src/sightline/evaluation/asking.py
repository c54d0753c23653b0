"""How a model is asked besides the question: the system turn and the special tokens that it was trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin

from sightline.config import Recipe
from sightline.data.render.render import Renderer
from sightline.errors import shown
from sightline.evaluation.quantization import recipe_of
from sightline.files import RUN_CARD
from sightline.models.folder_checks import read_object
from sightline.types import Example


@dataclass(frozen=True)
class Asking:
    """A recipe's `data.system` and `data.allow_tokens`.

    system: turn before a question that has none, or None. allow_tokens: special tokens that a question may hold.
    """

    system: str | None = None
    allow_tokens: tuple[str, ...] = ()

    def renderer(self, processor: ProcessorMixin) -> Renderer:
        """For prompts asked this way. Raises `RecipeError` for a token that no text may hold."""
        return Renderer(processor, allow_tokens=self.allow_tokens)

    def example(self, example: Example) -> Example:
        """The example asked this way."""
        return example.with_system(self.system)

    def fields(self) -> dict[str, Any]:
        """For a run card or the origin of an answer; empty for a question alone."""
        found: dict[str, Any] = {} if self.system is None else {"system": self.system}
        return {**found, "allow_tokens": list(self.allow_tokens)} if self.allow_tokens else found

    def changed(self, system: str | None = None, allow_tokens: Sequence[str] | None = None) -> "Asking":
        """With what a user gave in its stead; None leaves as it is, an empty text takes away."""
        found = self if system is None else replace(self, system=system or None)
        return found if allow_tokens is None else replace(found, allow_tokens=tuple(filter(None, allow_tokens)))

    def __str__(self) -> str:
        """For people."""
        said = "no system turn" if self.system is None else f"the system turn “{shown(self.system)}”"
        return f"{said}, {' '.join(self.allow_tokens)} allowed in questions" if self.allow_tokens else said


PLAIN = Asking()
"""The question alone."""


def asking_of(recipe: Recipe) -> Asking:
    """What a recipe says."""
    return Asking(recipe.data.system, tuple(recipe.data.allow_tokens))


def as_trained(folder: Path) -> Asking:
    """What the recipe of a run's folder says, or the card (`sightline.json`) of an exported model's."""
    recipe = recipe_of(folder)
    if recipe is not None:
        return asking_of(recipe)
    card = read_object(folder / RUN_CARD) if (folder / RUN_CARD).is_file() else {}
    system, tokens = card.get("system"), card.get("allow_tokens")
    return Asking(
        system if isinstance(system, str) else None,
        tuple(token for token in tokens if isinstance(token, str)) if isinstance(tokens, list) else (),
    )


def asking_note(asked: Mapping[str, Asking], *, is_given: bool) -> str | None:
    """One sentence on how models are asked, by label; None where it is the question alone and nobody said so.

    is_given: whether the user said how, else it is as they were trained.
    """
    kinds = {asking: [label for label, other in asked.items() if other == asking] for asking in asked.values()}
    if kinds.keys() <= {PLAIN} and not is_given:
        return None
    said = "; ".join(f"{asking} for {', '.join(labels)}" for asking, labels in kinds.items())
    return f"Asked with {said if len(kinds) > 1 else next(iter(kinds))}{'' if is_given else ', as trained'}."
