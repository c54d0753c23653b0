"""Sampled completions with all that rewards may want to know of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from PIL.Image import Image

from sightline.types import AnyImage

Message = dict[str, Any]
Completion = str | list[Message]


class Images(Sequence[Image]):
    """A row's images as rewards get them: `images[0]` is an upright RGB image, decoded when it is looked at."""

    def __init__(self, images: Sequence[AnyImage]) -> None:
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "Images": ...
    def __getitem__(self, index: Any) -> Any:
        return Images(self.images[index]) if isinstance(index, slice) else self.images[index].open()


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Some completions; every list has one entry a completion.

    rows: names of their rows. prompts: as the data has them, strings or messages. texts: what was answered.
    conversational: whether the row's prompt is a list of messages, and its completion therefore one too.
    token_ids: of the completions, the end token included. images: of the rows. columns: the user's, every other column
    of the rows.
    """

    rows: list[str]
    prompts: list[Any]
    texts: list[str]
    conversational: list[bool]
    token_ids: list[list[int]]
    images: list[Images]
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lists = (self.prompts, self.texts, self.conversational, self.token_ids, self.images, *self.columns.values())
        assert all(len(values) == len(self.rows) for values in lists)

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, indices: Sequence[int]) -> "Completions":
        """Only these completions."""
        return Completions(
            **{
                name: [getattr(self, name)[i] for i in indices]
                for name in ("rows", "prompts", "texts", "conversational", "token_ids", "images")
            },
            columns={name: [values[i] for i in indices] for name, values in self.columns.items()},
        )

    def in_form(self, form: Literal["as_data", "text", "messages"]) -> list[Completion]:
        """The completions as strings, as lists of one assistant message, or each as its row has it."""
        as_messages = [form == "messages" or (form == "as_data" and messages) for messages in self.conversational]
        return [
            [{"role": "assistant", "content": text}] if messages else text
            for text, messages in zip(self.texts, as_messages, strict=True)
        ]


def text_of(completion: Completion) -> str:
    """The text of a completion, whichever way it comes: a string, or messages of text or of content parts."""
    if isinstance(completion, str):
        return completion
    return "".join(_text_of_content(message["content"]) for message in completion if message["role"] == "assistant")


def question_of(prompt: Any) -> str:
    """The text of a prompt, a string or messages; of several turns each with its role in front."""
    if isinstance(prompt, str):
        return prompt
    turns = [(m["role"], _text_of_content(m["content"])) for m in prompt]
    return turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {text}" for role, text in turns)


def _text_of_content(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
