"""ShareGPT: `conversations` of `from` and `value` with `<image>` tags; RLHF-V adds `chosen` and `rejected` messages.

Sides may be messages, lists of them, JSON strings of either, or plain text. LLaMA-Factory's registry hands its own
tags and columns over in this form; `kto_tag` labels the last turn.
"""

import json
from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import Conversation, Message
from sightline.data.formats.conversational import split_demonstration
from sightline.data.formats.kto import labelled
from sightline.data.formats.names import picture_column
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media
from sightline.types import Response

ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "system": "system",
    "observation": "tool", "tool": "tool", "function_call": "assistant",
}  # fmt: skip
"""What `from` says → the role."""


def parse_sharegpt(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """A conversation whose last answer, or whose `chosen` and `rejected`, are the responses. Raises `RowError`."""
    conversation = Conversation(where, media)
    turns = _turns(row.get("conversations"), where)
    if row.get("system"):
        turns = [{"role": "system", "content": row["system"]}, *turns]
    messages = conversation.messages(turns, tags=True)
    consumed = ("conversations", "system", "chosen", "rejected")
    if row.get("chosen") is not None or row.get("rejected") is not None:
        prompt, answers = messages, [_side(row, name, conversation) for name in ("chosen", "rejected")]
    else:
        prompt, answer = split_demonstration(messages)
        answers = [answer] if answer else []
    prompt, images = conversation.place(prompt, picture_column(row))
    responses = tuple(Response(messages=a) for a in answers)
    parsed = Parsed(prompt=prompt, images=images, responses=responses, consumed=consumed)
    if isinstance(row.get("kto_tag"), bool) and len(responses) == 1:
        return labelled(parsed, row["kto_tag"])
    return parsed


def _turns(value: Any, where: str) -> list[Message]:
    """Messages of `role` and `content` from those of `from` and `value`."""
    value = _decoded(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        found = type(value).__name__
        raise RowError("column has the wrong type", where, f"conversations are a list of turns, got {found}")
    return [_turn(turn, where) for turn in value]


def _turn(turn: Any, where: str) -> Message:
    if isinstance(turn, Mapping):
        role = turn.get("from") if turn.get("from") is not None else turn.get("role")
        content = turn.get("value") if turn.get("value") is not None else turn.get("content")
        if isinstance(role, str) and role.lower() in ROLES and content is not None:
            return {"role": ROLES[role.lower()], "content": content}
    known = ", ".join(ROLES)
    what = f"a turn needs `from` (one of {known}) and `value`, got {turn!r:.120}"
    raise RowError("column has the wrong type", where, what)


def _side(row: Mapping[str, Any], name: str, conversation: Conversation) -> tuple[Message, ...]:
    """One response. A picture tag in it is text: pictures belong to the prompt."""
    value = _decoded(row.get(name))
    if value is None:
        raise RowError("response missing", conversation.where, f"the row has no {name}")
    if isinstance(value, str | int | float):
        value = {"from": "gpt", "value": value}
    messages = conversation.messages(_turns(value, conversation.where))
    if not messages or any(m["role"] != "assistant" for m in (messages[0], messages[-1])):
        what = f"{name} must begin and end with the assistant"
        raise RowError("response missing", conversation.where, what)
    return messages


def _decoded(value: Any) -> Any:
    """RLHF-V's older files hold messages as JSON strings."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value  # a text that happens to begin with a bracket
    return value
