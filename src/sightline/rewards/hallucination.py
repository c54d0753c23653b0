"""What a caption names that is not there, and what it leaves out (after CHAIR, arXiv:1809.02156, and AMBER's Cover).

reward = 1 − absent_weight · (mentions of absent objects / mentions) − missed_weight · (objects missed / objects)

The final answer is read, without the reasoning before it. Plurals are read as in the `chair` task of evaluation, in
captions and in the truth (`scoring.synonyms`).
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real
from sightline.config.strict import STRICT
from sightline.errors import RecipeError, RewardError
from sightline.rewards.completions import Completion, text_of
from sightline.scoring.chair import count_mentions
from sightline.scoring.settled import final_answer
from sightline.scoring.synonyms import Names


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Hallucination:
    """1 for a caption that names exactly what is there; an answer that names nothing misses everything."""

    vocabulary: str | list[str]
    """Objects that can be named: a list, or a file of one object a line, its synonyms after commas."""
    column: str = "objects"
    """Column of the objects in the image: a list, or a text with commas."""
    absent_weight: Real = Field(1.0, ge=0, le=1000)
    """What naming only absent objects costs."""
    missed_weight: Real = Field(1.0, ge=0, le=1000)
    """What missing every object costs."""

    def prepare(self, columns: Sequence[str]) -> None:
        """Raises `RewardError` without the column, `RecipeError` without the vocabulary."""
        if self.column not in columns:
            raise RewardError(
                f"Reward `hallucination` compares with the column `{self.column}`, which the rows do not have. They "
                f"have {', '.join(columns) or 'no other columns'}. Name the column that lists the objects of the "
                "image with its option `column`."
            )
        assert self._names.objects

    def __call__(self, /, completions: list[Completion], **columns: Any) -> list[float | None]:
        self.prepare([name for name, values in columns.items() if isinstance(values, list)])
        present = columns[self.column]
        return [self._score(text_of(c), objects) for c, objects in zip(completions, present, strict=True)]

    def _score(self, caption: str, objects: Any) -> float | None:
        if objects is None:
            return None
        listed = objects.split(",") if isinstance(objects, str) else [str(one) for one in objects]
        there = [one.strip() for one in listed if one.strip()]
        # what the row lists can be named on this row, also where the vocabulary lacks it
        names = self._names.including(there)
        counts = count_mentions(names.in_text(final_answer(caption)), [names.object_of(one) for one in there])
        absent = counts.hallucinated / counts.mentioned if counts.mentioned else 0.0
        missed = 1 - counts.covered / counts.present if counts.present else 0.0
        return 1 - self.absent_weight * absent - self.missed_weight * missed

    @cached_property
    def _names(self) -> Names:
        if isinstance(self.vocabulary, list):
            return Names({}).including(self.vocabulary)
        path = Path(self.vocabulary)
        if not path.is_file():
            raise RecipeError(f"Reward `hallucination`: there is no vocabulary file {path}.")
        names = Names.parse(path.read_text("utf-8"))
        if not names.objects:
            raise RecipeError(f"Reward `hallucination`: the vocabulary file {path} names no object, one a line.")
        return names
