"""What an example must be before it is rendered. Images are checked when they are opened, lengths when tokenised."""

from dataclasses import replace

from sightline.data.defects import RowError
from sightline.data.formats.names import ANSWER_COLUMNS, QUESTION_COLUMNS
from sightline.types import Example

LABEL_COLUMNS = ("label", "kto_tag")
MOST_CHARACTERS = 2**20
"""Of all texts of a row: a quarter of a million tokens. Ten times as many take gigabytes to tokenize alone."""


def checked(example: Example, num_responses: int, *, needs_label: bool = False) -> Example:
    """The example with its first `num_responses` responses (a pair as a demonstration is its chosen side), checked.

    needs_label: whether a single response has to be desirable or not. Raises `RowError`, see `check_example`.
    """
    if len(example.responses) > num_responses:
        example = replace(example, responses=example.responses[:num_responses])
    check_example(example, num_responses)
    if needs_label and [response.label for response in example.responses] == [None]:
        where = f"{example.source}, row {example.row_number}"
        what = "the response is not labelled as desirable or undesirable, which objectives such as kto and bco need"
        raise RowError("label missing", where, what + _unread(example, LABEL_COLUMNS))
    return example


def check_example(example: Example, num_responses: int) -> None:
    """Raise `RowError` unless the example has a user turn and `num_responses` responses that are not empty or equal.

    num_responses: 2 for pairs (chosen, rejected), 1 for demonstrations, 0 for prompts.
    """
    where = f"{example.source}, row {example.row_number}"
    messages = (*example.prompt, *(m for response in example.responses for m in response.messages))
    length = sum(len(_text(message)) for message in messages)
    if length > MOST_CHARACTERS:
        what = f"its texts have {length:,} characters, more than {MOST_CHARACTERS:,} are not rendered"
        raise RowError("text too long", where, what)
    if not any(m["role"] == "user" and _has_content(m) for m in example.prompt):
        what = "the prompt holds no user message with content"
        raise RowError("no user turn", where, what + _unread(example, QUESTION_COLUMNS))
    num_parts = sum(p["type"] == "image" for m in example.prompt for p in m["content"])
    if num_parts != len(example.images):
        what = f"the prompt has {num_parts} image part(s) and the row {len(example.images)} image(s)"
        raise RowError("images differ from placeholders", where, what)
    if len(example.responses) != num_responses:
        what = f"{num_responses} response(s) are expected, the row has {len(example.responses)}"
        what += _unread(example, ("chosen", "rejected") if num_responses == 2 else ANSWER_COLUMNS)
        raise RowError("response missing", where, what)
    names = ("chosen", "rejected") if num_responses == 2 else tuple(f"response {i}" for i in range(num_responses))
    for name, response in zip(names, example.responses, strict=True):
        trained = [m for m in response.messages if m["role"] == "assistant" and m.get("weight") != 0]
        if not trained:
            raise RowError("response empty", where, f"all turns of {name} have the weight 0: nothing is trained")
        if any(not _text(m).strip() for m in trained):
            turn = "is empty" if len(trained) == 1 else f"has an empty turn among {len(trained)}"
            raise RowError("response empty", where, f"{name} {turn}")
    texts = [r.text.strip() for r in example.responses]
    if num_responses == 2 and texts[0] == texts[1] and _messages_equal(example):
        raise RowError("chosen equals rejected", where, f"both sides are {texts[0][:60]!r}")


def _unread(example: Example, wanted: tuple[str, ...]) -> str:
    """The columns that are left, for the message about one that is missing."""
    if not example.row:
        return ""
    columns = ", ".join(map(repr, example.row))
    return f". Read for it: {', '.join(wanted)}; the row has {columns:.200}, which data.columns can rename"


def _messages_equal(example: Example) -> bool:
    chosen, rejected = ([(m["role"], _text(m).strip()) for m in r.messages] for r in example.responses)
    return chosen == rejected


def _text(message: dict) -> str:
    return "".join(p["text"] for p in message["content"] if p["type"] == "text")


def _has_content(message: dict) -> bool:
    return any(p["type"] == "image" or p["text"].strip() for p in message["content"])
