"""A config of another project on its way to a recipe: what each of its keys became."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sightline.config import Recipe
from sightline.errors import RecipeError, shown
from sightline.recipe import SHORTHAND, Tree, normalise, structure

Rule = str | Callable[["Translation", Any], None]
"""A recipe key of the same meaning, dotted; or a function that writes into the translation."""


@dataclass
class Translation:
    """The recipe so far, and a list of notes.

    source: what is translated, for the heading. given: the config's own keys. became: (old, new) for what was carried
    over. redundant: (old, why) for what holds here without being said. missing: (old, why) for what has no counterpart.
    """

    source: str
    given: dict[str, Any]
    tree: Tree = field(default_factory=dict)
    became: list[tuple[str, str]] = field(default_factory=list)
    redundant: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    current: str = ""
    folder: Path = Path()
    """Of the config: what it names may lie beside it."""

    def __post_init__(self) -> None:
        self.given = {name: numbers(value) for name, value in self.given.items()}

    def put(self, key: str, value: Any) -> None:
        """Set a recipe key, dotted, and note that the current key became it."""
        self.default(key, value)
        self.became.append((self.current, f"{key}: {_short(value)}"))

    def default(self, key: str, value: Any) -> None:
        """Set a recipe key without a note: a default of the other project that differs from ours."""
        *groups, name = key.split(".")
        inner = self.tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = value

    def has(self, key: str) -> bool:
        """Whether a recipe key, dotted, is set."""
        inner: Any = self.tree
        for name in key.split("."):
            if not isinstance(inner, dict) or name not in inner:
                return False
            inner = inner[name]
        return True

    def note(self, new: str) -> None:
        """The current key was read together with others and became this."""
        self.became.append((self.current, new))

    def holds(self, why: str) -> None:
        """The current key needs no saying here."""
        self.redundant.append((self.current, why))

    def lacks(self, why: str) -> None:
        """The current key has no counterpart."""
        self.missing.append((self.current, why))

    def apply(self, rules: dict[str, Rule]) -> None:
        """Every given key by its rule; a key without one is listed as unknown."""
        for name, value in self.given.items():
            self.current = f"{name}: {_short(value)}"
            rule = rules.get(name)
            if rule is None:
                self.lacks("not known here")
            elif isinstance(rule, str):
                self.put(rule, value)
            else:
                with self.reading():
                    rule(self, value)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Values of another project's config may be of any kind. Raises `RecipeError` for one that cannot be read."""
        try:
            yield
        except RecipeError:
            raise
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise RecipeError(f"{self.source}: `{shown(self.current)}` cannot be read: {error}.") from None

    def recipe(self) -> Recipe:
        """The translation as a recipe. Raises `RecipeError` where a value cannot be."""
        return structure(normalise(self.tree))

    def as_yaml(self) -> str:
        """The recipe file, headed by what could not be carried over."""
        self.recipe()
        lines = [f"# From {self.source}."]
        if self.missing:
            lines += ["# Not carried over:", *(f"#   {old}: {why}" for old, why in self._told(self.missing))]
        tree = {key: self.tree[key] for key in sorted(self.tree, key=_place)}
        return "\n".join(lines) + "\n" + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        became = [{"old": old, "new": new} for old, new in self.became]
        redundant, missing = (
            [{"old": old, "why": why} for old, why in rows] for rows in (self.redundant, self.missing)
        )
        told = {"became": became, "redundant": redundant, "missing": missing}
        return {"source": self.source, "recipe": self.tree, **told}

    @staticmethod
    def _told(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(old.replace("\n", " "), why) for old, why in rows]


def numbers(value: Any) -> Any:
    """YAML takes `5e-6` for text, and so does a command line; it is a number."""
    if isinstance(value, list):
        return [numbers(one) for one in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def _place(key: str) -> int:
    """Groups first, in the order that recipes have them."""
    order = ["model", "lora", "data", "objective", "reference", "sampler", "rewards", "output_dir"]
    return order.index(key) if key in order else len(order) + (key in SHORTHAND)


def _short(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
