"""Plain columns: RLAIF-V's `image, question, chosen, rejected`; VQA's `image, query, label`; TRL's plain strings.

With `<image>` tags in the question they are MMPR's and InternVL's.
"""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import Conversation, assistant
from sightline.data.formats.names import ANSWER_COLUMNS, QUESTION_COLUMNS, picture_column, present
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media
from sightline.types import Response


def parse_columns(row: Mapping[str, Any], where: str, media: Media, *, tags: bool = False) -> Parsed:
    """One user turn; `chosen` and `rejected` as responses, or the answer column, or none. Raises `RowError`."""
    question = present(row, QUESTION_COLUMNS)
    conversation = Conversation(where, media)
    turns = [] if question is None else [{"role": "user", "content": row[question]}]
    if question is not None and not isinstance(row[question], str | int | float):
        found = type(row[question]).__name__
        raise RowError("column has the wrong type", where, f"the column {question} should be text, it is {found}")
    prompt, images = conversation.place(conversation.messages(turns, tags=tags), picture_column(row))
    consumed = () if question is None else (question,)
    if "chosen" in row or "rejected" in row:
        consumed = (*consumed, "chosen", "rejected")
        return Parsed(prompt=prompt, images=images, responses=text_pair(row, where), consumed=consumed)
    answer = present(row, ANSWER_COLUMNS)
    if answer is None:
        return Parsed(prompt=prompt, images=images, consumed=consumed)
    # The answer stays among the row's columns: rewards compare with it.
    responses = (text_response(_first(row[answer]), where),)
    return Parsed(prompt=prompt, images=images, responses=responses, consumed=consumed)


def text_pair(row: Mapping[str, Any], where: str) -> tuple[Response, Response]:
    """The columns `chosen` and `rejected` as responses. Raises `RowError` when either is missing."""
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise RowError("response missing", where, f"the row has no {' and no '.join(missing)}")
    return text_response(row["chosen"], where), text_response(row["rejected"], where)


def text_response(text: Any, where: str) -> Response:
    """A response of one assistant turn."""
    return Response(messages=(assistant(text, where),))


def _first(answers: Any) -> Any:
    """VQA sets give a list of accepted answers (ChartQA: of one); the first is the one to learn."""
    return answers[0] if isinstance(answers, list | tuple) and answers else answers
