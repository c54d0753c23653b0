"""What repeating oneself costs (arXiv:2502.03373, appendix C.2): the share of token n-grams that are repetitions."""

from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Repetition:
    """(1 − distinct n-grams / n-grams) · max_penalty; 0 for answers shorter than an n-gram."""

    ngram: Whole = Field(3, ge=1, le=1000)
    """Tokens of an n-gram."""
    max_penalty: Real = Field(-1.0, ge=-1000, le=0)
    """What an answer that is nothing but repetition approaches."""

    def __call__(self, /, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return [self._score(ids) for ids in completion_ids]

    def _score(self, ids: list[int]) -> float:
        grams = [tuple(ids[i : i + self.ngram]) for i in range(len(ids) - self.ngram + 1)]
        return (1 - len(set(grams)) / len(grams)) * self.max_penalty if grams else 0.0
