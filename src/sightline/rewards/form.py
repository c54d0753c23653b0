"""Rewards for the form of a completion, whatever it says: tags around the thinking, length, repetition."""

import re
from typing import Any

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.strict import STRICT
from sightline.rewards.completions import Completion, text_of

BOTH = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
THINK = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ThinkFormat:
    """1 for thinking first, then the answer, each in its tags and each tag once, else 0.

    DeepSeek-R1 (arXiv:2501.12948, §2.2.2).
    """

    answer_tags: bool = True
    """Ask for `<answer>` tags around what follows the thinking."""

    def __call__(self, /, completions: list[Completion], **columns: Any) -> list[float]:
        return [float(self._is_well_formed(text_of(completion))) for completion in completions]

    def _is_well_formed(self, text: str) -> bool:
        found = (BOTH if self.answer_tags else THINK).fullmatch(text)
        return found is not None and not any(TAG.search(part) for part in found.groups())


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Length:
    """DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13), and one for too short; the end token counts.

    0 up to `longest` − `buffer` tokens, then falling in a straight line to −1 at `longest`, −1 beyond.
    """

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Repetition:
    """(1 − distinct n-grams / n-grams) · max_penalty, of tokens (arXiv:2502.03373, appendix C.2); 0 for answers shorter
    than an n-gram."""

    ngram: Whole = Field(3, ge=1, le=1000)
    """Tokens of an n-gram."""
    max_penalty: Real = Field(-1.0, ge=-1000, le=0)
    """What an answer that is nothing but repetition approaches."""

    def __call__(self, /, completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return [self._score(ids) for ids in completion_ids]

    def _score(self, ids: list[int]) -> float:
        grams = [tuple(ids[i : i + self.ngram]) for i in range(len(ids) - self.ngram + 1)]
        return (1 - len(set(grams)) / len(grams)) * self.max_penalty if grams else 0.0
