"""TRL's conversational rows: messages with content parts or plain content, the prompt explicit or implicit.

Pairs: `prompt, chosen, rejected`, or `chosen, rejected` that begin alike. Demonstrations: `messages`, or
`prompt, completion`. Prompts: `prompt`, or `messages` that end with the user.
"""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import Conversation, Message, messages_as_text
from sightline.data.formats.opening import opened
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media
from sightline.types import Response


def parse_conversational(row: Mapping[str, Any], where: str, media: Media, *, tags: bool = False) -> Parsed:
    """Messages of a row; `tags`: `<image>` in their text stands for an image. Raises `RowError`."""
    conversation = Conversation(where, media, literal="conversational" if tags else None)
    if row.get("chosen") is not None or row.get("rejected") is not None:
        prompt, *answers = _pair(row, conversation, tags)
        consumed = ("prompt", "chosen", "rejected", *(("messages",) if row.get("prompt") is None else ()))
    elif row.get("completion") is not None:
        prompt = _prompt(row.get("prompt") or [], conversation, tags)
        answers = [_answer(row["completion"], conversation)]
        consumed = ("prompt", "completion")
    else:
        name = "messages" if row.get("messages") is not None else "prompt"
        if row.get(name) is None:
            raise RowError("format not recognised", where, "the row has no messages, prompt, completion or chosen")
        prompt, answer = split_demonstration(_prompt(row[name], conversation, tags), where)
        answers = [answer] if answer else []
        consumed = (name,)
    prompt, images, found = conversation.place(opened(row, conversation, prompt, tags=tags), row)
    responses = tuple(Response(messages=a) for a in answers)
    return Parsed(
        prompt=prompt,
        images=images,
        responses=responses,
        consumed=(*consumed, *found.read),
        image_columns=found.columns,
    )


def split_demonstration(messages: tuple[Message, ...], where: str) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """A conversation as prompt and response: the response begins at the first assistant turn after the last image.

    Every assistant turn of the response is a target; earlier ones are context, because images belong to the prompt.
    A conversation that ends with the user is all prompt. Raises `RowError` for an image in the last answer.
    """
    if not messages or messages[-1]["role"] != "assistant":
        return messages, ()
    with_image = [i for i, m in enumerate(messages) if any(p["type"] == "image" for p in m["content"])]
    start = with_image[-1] + 1 if with_image else 0
    first = next((i for i in range(start, len(messages)) if messages[i]["role"] == "assistant"), len(messages))
    if first == len(messages):
        what = "the last answer holds an image; images belong to the prompt"
        raise RowError("images differ from placeholders", where, what)
    return messages[:first], messages[first:]


def _pair(row: Mapping[str, Any], conversation: Conversation, tags: bool) -> list[tuple[Message, ...]]:
    """Prompt, chosen, rejected."""
    missing = [name for name in ("chosen", "rejected") if row.get(name) is None]
    if missing:
        raise RowError("response missing", conversation.where, f"the row has no {' and no '.join(missing)}")
    chosen, rejected = (_as_list(row[name], conversation.where) for name in ("chosen", "rejected"))
    given = "prompt" if row.get("prompt") is not None else "messages"  # ms-swift's pairs have messages
    if row.get(given) is None:
        shared = _shared_turns(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        prompt = _as_list(row[given], conversation.where, role="user")
        chosen, rejected = (_without_prompt(side, prompt) for side in (chosen, rejected))
    parsed = conversation.messages(prompt, tags=tags)
    return [parsed, _answer(chosen, conversation), _answer(rejected, conversation)]


def _shared_turns(chosen: list[Any], rejected: list[Any]) -> int:
    """Turns of an implicit prompt: those that both sides begin with, up to the last one that is not the assistant's."""
    shared = 0
    for ours, theirs in zip(chosen, rejected, strict=False):
        if ours != theirs:
            break
        shared += 1
    while shared and isinstance(chosen[shared - 1], Mapping) and chosen[shared - 1].get("role") == "assistant":
        shared -= 1
    return shared


def _without_prompt(side: list[Any], prompt: list[Any]) -> list[Any]:
    """Some sets repeat the prompt inside chosen and rejected."""
    return side[len(prompt) :] if side[: len(prompt)] == prompt else side


def _prompt(value: Any, conversation: Conversation, tags: bool) -> tuple[Message, ...]:
    return conversation.messages(_as_list(value, conversation.where, role="user"), tags=tags)


def _answer(value: Any, conversation: Conversation) -> tuple[Message, ...]:
    """The messages of one response. Raises `RowError` for an image in it, or when the assistant does not end it."""
    num_slots = len(conversation.slots)
    messages = conversation.messages(_as_list(value, conversation.where))
    if len(conversation.slots) > num_slots:
        what = "a response holds an image; images belong to the prompt, which both sides share"
        raise RowError("images differ from placeholders", conversation.where, what)
    if not messages or messages[0]["role"] != "assistant" or messages[-1]["role"] != "assistant":
        roles = ", ".join(m["role"] for m in messages) or "no turn"
        what = f"a response must begin and end with the assistant after the prompt, got {roles}"
        raise RowError("response missing", conversation.where, what)
    return messages


def _as_list(value: Any, where: str, role: str = "assistant") -> list[Any]:
    """Messages as a list; a string is one message of `role`, unless it is messages in JSON."""
    value = messages_as_text(value)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return list(value)
    found = type(value).__name__
    raise RowError("column has the wrong type", where, f"messages are a list or a string, got {found} {value!r:.80}")
