"""ShareGPT: `conversations` of `from` and `value` with `<image>` tags; RLHF-V adds `chosen` and `rejected` messages.

Sides may be messages, lists of them, JSON strings of either, or plain text. LLaMA-Factory's registry hands its own
tags and columns over in this form; `kto_tag` labels the last turn.
"""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import ROLES, Conversation, Message, messages_as_text
from sightline.data.formats.conversational import split_demonstration
from sightline.data.formats.labels import labelled
from sightline.data.formats.opening import opened
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media
from sightline.types import Response


def parse_sharegpt(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """A conversation whose last answer, or whose `chosen` and `rejected`, are the responses. Raises `RowError`."""
    conversation = Conversation(where, media)
    messages = conversation.messages(_turns(row.get("conversations"), where), tags=True)
    messages = opened(row, conversation, messages, tags=True, wins="turn")
    if row.get("chosen") is not None or row.get("rejected") is not None:
        prompt, answers = messages, [_side(row, name, conversation) for name in ("chosen", "rejected")]
    else:
        prompt, answer = split_demonstration(messages, where)
        answers = [answer] if answer else []
    prompt, images, found = conversation.place(prompt, row)
    responses = tuple(Response(messages=a) for a in answers)
    consumed = ("conversations", "chosen", "rejected", *found.read)
    parsed = Parsed(prompt=prompt, images=images, responses=responses, consumed=consumed, image_columns=found.columns)
    return labelled(parsed, row, "kto_tag", where) if "kto_tag" in row else parsed


def _turns(value: Any, where: str) -> list[Message]:
    """Messages of `role` and `content` from those of `from` and `value`."""
    value = messages_as_text(value)
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
        if isinstance(role, str) and role.lower() in ROLES and (content is not None or "value" in turn):
            rest = {k: v for k, v in turn.items() if k not in ("from", "value")}
            return {**rest, "role": role, "content": content}
    known = ", ".join(ROLES)
    what = f"a turn needs `from` (one of {known}) and `value`, got {turn!r:.120}"
    raise RowError("column has the wrong type", where, what)


def _side(row: Mapping[str, Any], name: str, conversation: Conversation) -> tuple[Message, ...]:
    """One response. An image tag in it is text: images belong to the prompt."""
    value = messages_as_text(row.get(name))
    if value is None:
        raise RowError("response missing", conversation.where, f"the row has no {name}")
    if isinstance(value, str | int | float):
        value = {"from": "gpt", "value": value}
    messages = conversation.messages(_turns(value, conversation.where))
    if not messages or any(m["role"] != "assistant" for m in (messages[0], messages[-1])):
        what = f"{name} must begin and end with the assistant"
        raise RowError("response missing", conversation.where, what)
    return messages
