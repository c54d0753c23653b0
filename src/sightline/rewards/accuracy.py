"""1 for an answer that says the same as the row's solution, else 0; None where the row has none."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real
from sightline.config.strict import STRICT
from sightline.errors import RewardError
from sightline.rewards.completions import Completion, text_of
from sightline.scoring.choices import chosen
from sightline.scoring.letters import LETTERS, lettered
from sightline.scoring.matching import (
    choice,
    exact,
    fitting_method,
    mathematical,
    numeric,
    relaxed,
    vector,
    yes_no,
)
from sightline.scoring.settled import bare, given, plain, settled


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Accuracy:
    """Compares what an answer settles on (its `<answer>`, what follows `</think>`, its box, its "the answer is") with
    the solution, read as evaluation reads it (`scoring.matching`)."""

    column: str = "solution"
    """Column of the truth; a list of texts is met by any of them, a list of numbers (a box) by all, in order."""
    choices: str = "choices"
    """Column of the choices' texts, for rows that have it: an answer may then name its choice by letter or by text."""
    method: Literal["auto", "exact", "yes_no", "numeric", "choice", "relaxed", "math"] = "auto"
    """auto: by the truth: a letter, yes or no, a number, other mathematics (math-verify), or words."""
    tolerance: Real | None = Field(None, ge=0, le=10**6)
    """Relative error that numbers may have; left out: 1e-6, for `relaxed` 0.05."""
    seconds: Real = Field(5.0, gt=0, le=10**5)
    """Time that math-verify has for one answer; then the answer is wrong."""

    def prepare(self, columns: Sequence[str]) -> None:
        """Raises `RewardError` without the column."""
        if self.column not in columns:
            raise RewardError(
                f"Reward `accuracy` compares with the column `{self.column}`, which the rows do not have. They have "
                f"{', '.join(columns) or 'no other columns'}. Name the right one with its option `column`."
            )

    def __call__(self, /, completions: list[Completion], **columns: Any) -> list[float | None]:
        self.prepare([name for name, values in columns.items() if isinstance(values, list)])
        choices = columns.get(self.choices) or [None] * len(completions)
        return [
            self._score(text_of(completion), truth, offered)
            for completion, truth, offered in zip(completions, columns[self.column], choices, strict=True)
        ]

    def _score(self, answer: str, truth: Any, choices: Any) -> float | None:
        truths = truth if isinstance(truth, list | tuple) and not _is_vector(truth) else [truth]
        verdicts = [self._is_correct(answer, one, choices) for one in truths if one is not None]
        known = [verdict for verdict in verdicts if verdict is not None]
        return float(any(known)) if known else None

    def _is_correct(self, answer: str, truth: Any, choices: Any) -> bool | None:
        if _is_vector(truth):
            return vector(answer, [float(one) for one in truth], tolerance=self._tolerance)
        truth = given(str(truth))
        method = fitting_method(truth) if self.method == "auto" else self.method
        if isinstance(choices, list | tuple) and choices and self.method in ("auto", "choice"):
            right = _place(truth, [str(one) for one in choices])
            if right is not None:
                return chosen(answer, [str(one) for one in choices]) == right
        match method:
            case "exact":
                return exact(answer, truth)
            case "yes_no":
                return yes_no(answer, truth)
            case "numeric":
                return numeric(answer, truth, tolerance=self._tolerance, seconds=self.seconds)
            case "choice":
                return choice(answer, truth)
            case "relaxed":
                tolerance = 0.05 if self.tolerance is None else self.tolerance
                return any(relaxed(part, truth, tolerance=tolerance) for part in settled(answer))
            case "math":
                return mathematical(answer, truth, tolerance=self._tolerance, seconds=self.seconds)

    @property
    def _tolerance(self) -> float:
        return 1e-6 if self.tolerance is None else self.tolerance


def _is_vector(truth: Any) -> bool:
    """Several numbers that are one answer: a box, a point."""
    is_list = isinstance(truth, list | tuple) and len(truth) > 1
    return is_list and all(isinstance(one, int | float) and not isinstance(one, bool) for one in truth)


def _place(truth: str, choices: list[str]) -> int | None:
    """Which choice a truth is, by its text or its letter; None where it is none of them."""
    if truth in choices:
        return choices.index(truth)
    by_letter = lettered(bare(truth))
    if by_letter is not None and by_letter.letter in LETTERS[: len(choices)]:
        return LETTERS.index(by_letter.letter)
    same = [place for place, text in enumerate(choices) if plain(text) == plain(truth)]
    return same[0] if len(same) == 1 else None
