"""What an answer's length costs: DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13), and one for too short.

0 up to `longest` − `buffer` tokens, then falling in a straight line to −1 at `longest`, −1 beyond.
"""

from typing import Any

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Whole
from sightline.config.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Length:
    """From 0 for a fitting length to −1; the end token counts."""

    longest: Whole = Field(ge=1, le=10**6)
    """Tokens from which on an answer gets −1; usually `sampler.max_completion_length`."""
    buffer: Whole = Field(0, ge=0, le=10**6)
    """Tokens before `longest` over which the punishment grows."""
    shortest: Whole = Field(0, ge=0, le=10**6)
    """Tokens that an answer should have at least; an empty one gets −1."""

    @model_validator(mode="after")
    def _leaves_room(self) -> "Length":
        if self.shortest > self.longest - self.buffer:
            raise ValueError("`shortest` is above `longest` − `buffer`, so that no length would be right")
        return self

    def __call__(self, /, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return [self._score(len(ids)) for ids in completion_ids]

    def _score(self, length: int) -> float:
        if length < self.shortest:
            return length / self.shortest - 1
        free = self.longest - self.buffer
        if length <= free:
            return 0.0
        return max((free - length) / self.buffer, -1.0) if self.buffer else -1.0
