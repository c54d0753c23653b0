"""The text of a completion, the same for rewards, evaluation, `generate` and the app."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import ProcessorMixin

from sightline.generation.decoder import special_tokens
from sightline.models.families.family import Family


@dataclass(frozen=True, kw_only=True)
class CompletionText:
    """All of the assistant's turn, and nothing that only ends it.

    ends: ids that end a completion or fill it up; any other is content, `<think>` too where it is a special token.
    opening: what the chat template writes of the turn at the end of a prompt (`ChatTemplate.opening`).
    """

    tokenizer: Any
    ends: frozenset[int]
    opening: str = ""

    @classmethod
    def of(cls, processor: ProcessorMixin, family: Family, opening: str = "") -> "CompletionText":
        """That of a model."""
        tokenizer, special = processor.tokenizer, special_tokens(processor, family)
        ends = {*special.ends, special.padding, tokenizer.pad_token_id, tokenizer.bos_token_id}
        return cls(tokenizer=tokenizer, ends=frozenset(ends - {None}), opening=opening)

    def __call__(self, ids: Sequence[int] | Tensor, prompt: str = "") -> str:
        """The text of the completion with these tokens. prompt: the text before it, for a template that opens it."""
        tokens = ids.tolist() if isinstance(ids, Tensor) else ids
        text = self.tokenizer.decode([i for i in tokens if i not in self.ends], skip_special_tokens=False)
        return self.opening + text if self.opening and prompt.endswith(self.opening) else text
