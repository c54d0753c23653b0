"""Plain columns: RLAIF-V's `image, question, chosen, rejected`; VQA's `image, query, label`; TRL's plain strings.

With `<image>` tags in the question they are MMPR's and InternVL's.
"""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.choices import refuse_unseen_choices
from sightline.data.formats.content import Conversation, text_part
from sightline.data.formats.names import ANSWER_COLUMNS, QUESTION_COLUMNS, present
from sightline.data.formats.opening import opened
from sightline.data.formats.parsed import Parsed
from sightline.data.formats.turn_keys import is_empty
from sightline.data.media.find import Media
from sightline.types import Response

RIVALS = ("answer", "completion", "response", "output")
"""Answer columns of which only one may say something: which of two is learned would be a guess."""


def parse_columns(row: Mapping[str, Any], where: str, media: Media, *, tags: bool = False) -> Parsed:
    """One user turn; `chosen` and `rejected` as responses, or the answer column, or none. Raises `RowError`."""
    question = present(row, QUESTION_COLUMNS)
    conversation = Conversation(where, media, literal="columns" if tags else None)
    turns = [] if question is None else [{"role": "user", "content": row[question]}]
    if question is not None and not isinstance(row[question], str | int | float):
        found = type(row[question]).__name__
        raise RowError("column has the wrong type", where, f"the column {question} should be text, it is {found}")
    consumed = () if question is None else (question,)
    prompt = conversation.messages(turns, tags=tags)
    if "chosen" in row or "rejected" in row:
        consumed = (*consumed, "chosen", "rejected")
        responses = text_pair(row, conversation)
    else:
        # The answer stays among the extra columns: rewards compare with it.
        responses = _answer(row, conversation)
    if question is not None:
        refuse_unseen_choices(row, str(row[question]), [r.text for r in responses], where)
    prompt = opened(row, conversation, prompt, tags=tags)
    prompt, images, found = conversation.place(prompt, row)
    return Parsed(
        prompt=prompt,
        images=images,
        responses=responses,
        consumed=(*consumed, *found.read),
        image_columns=found.columns,
    )


def text_pair(row: Mapping[str, Any], conversation: Conversation) -> tuple[Response, Response]:
    """The columns `chosen` and `rejected` as responses. Raises `RowError` when either is missing."""
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise RowError("response missing", conversation.where, f"the row has no {' and no '.join(missing)}")
    return text_response(row["chosen"], conversation), text_response(row["rejected"], conversation)


def text_response(text: Any, conversation: Conversation) -> Response:
    """A response of one assistant turn. Raises `RowError` for what is not text."""
    text = text_part(text, conversation.where)["text"]
    return Response(messages=conversation.messages([{"role": "assistant", "content": text}]))


def _answer(row: Mapping[str, Any], conversation: Conversation) -> tuple[Response, ...]:
    """The answer column as the response; none where the row has no such column. Raises `RowError`."""
    given = {name: row[name] for name in ANSWER_COLUMNS if row.get(name) is not None}
    if not given:
        return ()
    rivals = {name: value for name, value in given.items() if name in RIVALS and not is_empty(value)}
    if len({str(value).strip() for value in rivals.values()}) > 1:
        what = f"{' and '.join(rivals)} are both columns for the answer, and they differ"
        raise RowError("columns disagree", conversation.where, what)
    name, value = next(iter(given.items()))
    if isinstance(value, list | tuple) and value:
        # VQA sets give a list of accepted answers (ChartQA: of one); the first is the one to learn.
        if not all(isinstance(one, str) for one in value):
            what = (
                f"the column {name} is a list of {type(value[0]).__name__}, {value!r:.60}; a list is read as accepted "
                "answers in text. Write the answer as one text"
            )
            raise RowError("column has the wrong type", conversation.where, what)
        value = value[0]
    if isinstance(value, bool | list | tuple | Mapping):
        what = f"the column {name} should be the answer's text, it is {type(value).__name__} {value!r:.60}"
        raise RowError("column has the wrong type", conversation.where, what)
    return (text_response(value, conversation),)
