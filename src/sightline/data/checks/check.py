"""What an example must be before it is rendered. Pictures are checked when they are opened, lengths when tokenised."""

from dataclasses import replace

from sightline.data.defects import RowError
from sightline.types import Example


def checked(example: Example, num_responses: int) -> Example:
    """The example with its first `num_responses` responses (a pair as a demonstration is its chosen side), checked.

    Raises `RowError`, see `check_example`.
    """
    if len(example.responses) > num_responses:
        example = replace(example, responses=example.responses[:num_responses])
    check_example(example, num_responses)
    return example


def check_example(example: Example, num_responses: int) -> None:
    """Raise `RowError` unless the example has a user turn and `num_responses` responses that are not empty or equal.

    num_responses: 2 for pairs (chosen, rejected), 1 for demonstrations, 0 for prompts.
    """
    where = f"{example.source}, row {example.row_number}"
    if not any(m["role"] == "user" and _has_content(m) for m in example.prompt):
        raise RowError("no user turn", where, "the prompt holds no user message with content")
    num_parts = sum(p["type"] == "image" for m in example.prompt for p in m["content"])
    if num_parts != len(example.images):
        what = f"the prompt has {num_parts} image part(s) and the row {len(example.images)} picture(s)"
        raise RowError("pictures differ from placeholders", where, what)
    if len(example.responses) != num_responses:
        what = f"{num_responses} response(s) are expected, the row has {len(example.responses)}"
        raise RowError("response missing", where, what)
    names = ("chosen", "rejected") if num_responses == 2 else tuple(f"response {i}" for i in range(num_responses))
    for name, response in zip(names, example.responses, strict=True):
        if not response.text.strip():
            raise RowError("response empty", where, f"{name} is empty")
    texts = [r.text.strip() for r in example.responses]
    if num_responses == 2 and texts[0] == texts[1] and _messages_equal(example):
        raise RowError("chosen equals rejected", where, f"both sides are {texts[0][:60]!r}")


def _messages_equal(example: Example) -> bool:
    chosen, rejected = ([(m["role"], _text(m).strip()) for m in r.messages] for r in example.responses)
    return chosen == rejected


def _text(message: dict) -> str:
    return "".join(p["text"] for p in message["content"] if p["type"] == "text")


def _has_content(message: dict) -> bool:
    return any(p["type"] == "image" or p["text"].strip() for p in message["content"])
