"""1 for an answer that says the same as the row's solution, else 0; None where the row has none."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real
from sightline.config.strict import STRICT
from sightline.errors import RewardError
from sightline.rewards.answers import Completion, text_of
from sightline.rewards.math_verifier import verifier
from sightline.scoring.matching import choice, exact, final_answer, fitting_method, numeric, relaxed


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Accuracy:
    """Compares what an answer settles on (its `<answer>`, or what follows `</think>`) with the solution."""

    column: str = "solution"
    """Column of the truth; a list of accepted answers is met by any of them."""
    method: Literal["auto", "exact", "numeric", "choice", "relaxed", "math"] = "auto"
    """auto: by the truth: a letter, a number, a formula (math-verify), or words."""
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
        return [
            self._score(final_answer(text_of(completion)), truth)
            for completion, truth in zip(completions, columns[self.column], strict=True)
        ]

    def _score(self, answer: str, truth: Any) -> float | None:
        truths = [str(one) for one in (truth if isinstance(truth, list | tuple) else [truth]) if one is not None]
        verdicts = [self._is_correct(answer, one) for one in truths]
        known = [verdict for verdict in verdicts if verdict is not None]
        return float(any(known)) if known else None

    def _is_correct(self, answer: str, truth: str) -> bool | None:
        truth = final_answer(truth)
        method = fitting_method(truth) if self.method == "auto" else self.method
        match method:
            case "exact":
                return exact(answer, truth)
            case "numeric":
                return numeric(answer, truth, tolerance=1e-6 if self.tolerance is None else self.tolerance)
            case "choice":
                return choice(answer, truth)
            case "relaxed":
                return relaxed(answer, truth, tolerance=0.05 if self.tolerance is None else self.tolerance)
            case "math":
                return verifier(self.seconds).is_correct(truth, answer)
