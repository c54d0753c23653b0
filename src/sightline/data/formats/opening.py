"""What columns put in front of a conversation, in any format: a `system` turn, the `history` of earlier exchanges."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import Conversation, Message
from sightline.data.formats.turn_keys import is_empty

COLUMNS = ("system", "system_prompt", "history")


def opened(
    row: Mapping[str, Any], conversation: Conversation, messages: tuple[Message, ...], *, tags: bool, wins: str = ""
) -> tuple[Message, ...]:
    """The messages with what the columns put in front; none of it is repeated.

    wins: "turn" where a system turn of the conversation goes before the column, as in LLaMA-Factory. Raises `RowError`
    where they differ otherwise.
    """
    where = conversation.where
    history = conversation.messages(history_turns(row.get("history"), where), tags=tags)
    system = _system(row, where)
    own = [m for m in messages if m["role"] == "system"]
    if own and history:
        messages = (*own, *history, *(m for m in messages if m["role"] != "system"))
    else:
        messages = (*history, *messages)
    if system is None or (own and wins == "turn"):
        return messages
    turn = {"role": "system", "content": [{"type": "text", "text": system}]}
    if not own:
        return (conversation.messages([{"role": "system", "content": system}])[0], *messages)
    if own[0] != turn:
        what = "the conversation has a system turn and the row a system column with another text"
        raise RowError("columns disagree", where, what)
    return messages


def _system(row: Mapping[str, Any], where: str) -> str | None:
    texts = {name: row[name] for name in ("system", "system_prompt") if not is_empty(row.get(name))}
    for name, text in texts.items():
        if not isinstance(text, str):
            what = f"the column {name} should be text, it is {type(text).__name__} {text!r:.60}"
            raise RowError("column has the wrong type", where, what)
    if len(set(texts.values())) > 1:
        raise RowError("columns disagree", where, "system and system_prompt differ")
    return next(iter(texts.values()), None)


def history_turns(value: Any, where: str) -> list[Message]:
    """Earlier questions and answers, `[[question, answer], …]`. Raises `RowError`."""
    if is_empty(value):
        return []
    if isinstance(value, str):  # CSV
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    turns: list[Message] = []
    for exchange in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            what = f"history is a list of [question, answer], got {exchange!r:.80}"
            raise RowError("column has the wrong type", where, what)
        turns += [{"role": "user", "content": exchange[0]}, {"role": "assistant", "content": exchange[1]}]
    return turns
