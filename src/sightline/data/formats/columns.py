"""Plain columns: RLAIF-V's `image, question, chosen, rejected`; VQA's `image, query, label`; TRL's plain strings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.data.content import Conversation, assistant, user
from sightline.data.defects import RowError
from sightline.data.formats.names import ANSWER_COLUMNS, QUESTION_COLUMNS, picture_column, present
from sightline.data.formats.parsed import Parsed
from sightline.types import Response


def parse_columns(row: Mapping[str, Any], where: str, media_dir: Path | None) -> Parsed:
    """One user turn; `chosen` and `rejected` as responses, or the answer column, or none. Raises `RowError`."""
    question = present(row, QUESTION_COLUMNS)
    turns = () if question is None else (user(row[question], where),)
    conversation = Conversation(where, media_dir)
    prompt, images = conversation.place(turns, picture_column(row))
    consumed = () if question is None else (question,)
    if "chosen" in row or "rejected" in row:
        return Parsed(
            prompt=prompt, images=images, responses=_pair(row, where), consumed=(*consumed, "chosen", "rejected")
        )
    answer = present(row, ANSWER_COLUMNS)
    if answer is None:
        return Parsed(prompt=prompt, images=images, consumed=consumed)
    # The answer stays among the extra columns: rewards compare with it.
    return Parsed(prompt=prompt, images=images, responses=(_response(_first(row[answer]), where),), consumed=consumed)


def _pair(row: Mapping[str, Any], where: str) -> tuple[Response, ...]:
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise RowError("response missing", where, f"the row has no {' and no '.join(missing)}")
    return _response(row["chosen"], where), _response(row["rejected"], where)


def _response(text: Any, where: str) -> Response:
    return Response(messages=(assistant(text, where),))


def _first(answers: Any) -> Any:
    """VQA sets give a list of accepted answers (ChartQA: of one); the first is the one to learn."""
    return answers[0] if isinstance(answers, list | tuple) and answers else answers
