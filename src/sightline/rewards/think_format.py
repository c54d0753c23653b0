"""1 for an answer of the form `<think>…</think><answer>…</answer>`, else 0 (DeepSeek-R1, arXiv:2501.12948, §2.2.2)."""

import re
from typing import Any

from pydantic.dataclasses import dataclass

from sightline.config.strict import STRICT
from sightline.rewards.answers import Completion, text_of

BOTH = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
THINK = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)
TAG = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ThinkFormat:
    """Thinking first, then the answer, each in its tags, each tag once."""

    answer_tags: bool = True
    """Ask for `<answer>` tags around what follows the thinking."""

    def __call__(self, /, completions: list[Completion], **columns: Any) -> list[float]:
        return [float(self._is_well_formed(text_of(completion))) for completion in completions]

    def _is_well_formed(self, text: str) -> bool:
        found = (BOTH if self.answer_tags else THINK).fullmatch(text)
        return found is not None and not any(TAG.search(part) for part in found.groups())
