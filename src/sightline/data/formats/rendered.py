r"""Rows already rendered with a model's chat template: `'User:<image>how many?<end_of_utterance>\n'`.

The template is taken off again, so that such rows train any model and pass every check; the markup that is left in a
text is refused when the row is rendered. Read: the templates of Idefics and SmolVLM, ChatML (Qwen, InternVL), Llama 3,
Gemma and LLaVA-1.5. Columns: `prompt, chosen, rejected`, `prompt, completion`, or `text` for a whole conversation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import Conversation, Message
from sightline.data.formats.names import picture_column
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media
from sightline.types import Response


@dataclass(frozen=True)
class Dialect:
    """One family of templates.

    sign: text that only its rows hold. turn: matches one turn, with its role (group 1) and text (group 2).
    picture: matches what stands for a picture.
    """

    sign: re.Pattern[str]
    turn: re.Pattern[str]
    picture: re.Pattern[str]


def _dialect(sign: str, turn: str, picture: str = "<image>") -> Dialect:
    return Dialect(re.compile(sign), re.compile(turn, re.DOTALL), re.compile(picture))


CHATML_PICTURE = r"<\|vision_start\|><\|image_pad\|><\|vision_end\|>|<img><IMG_CONTEXT></img>|<IMG_CONTEXT>|<image>"
DIALECTS = {
    "idefics": _dialect(
        r"<end_of_utterance>",
        r"(?:<\|im_start\|>)?(System|User|Assistant): ?(.*?)(?:<end_of_utterance>\s*|\s*$)",
        r"<fake_token_around_image><image><fake_token_around_image>|<image>",
    ),
    "chatml": _dialect(
        r"<\|im_start\|>", r"<\|im_start\|>(system|user|assistant)\n(.*?)(?:<\|im_end\|>\s*|\s*$)", CHATML_PICTURE
    ),
    "llama": _dialect(
        r"<\|start_header_id\|>",
        r"<\|start_header_id\|>(system|user|assistant)<\|end_header_id\|>\n\n(.*?)(?:<\|eot_id\|>\s*|\s*$)",
        r"<\|image\|>",
    ),
    "gemma": _dialect(
        r"<start_of_turn>", r"<start_of_turn>(user|model)\n(.*?)(?:<end_of_turn>\s*|\s*$)", r"\s*<start_of_image>\s*"
    ),
    "llava": _dialect(
        r"(?:^|\n| )USER: ?.*ASSISTANT:|^(?:USER|ASSISTANT):",
        r"(USER|ASSISTANT): ?(.*?)(?:</s>|\s*(?=(?:USER|ASSISTANT):)|\s*$)",
    ),
}  # fmt: skip
ROLES = {"model": "assistant"}
TEXT_COLUMNS = ("prompt", "text", "chosen", "rejected", "completion")
BEGINNING = re.compile(r"^(?:<s>|<bos>|<\|begin_of_text\|>)\s*")


def dialect_of(row: Mapping[str, Any]) -> str | None:
    """The template that the row's texts are written in; None when they are plain."""
    texts = [row[name] for name in ("prompt", "text") if isinstance(row.get(name), str)]
    for name, dialect in DIALECTS.items():
        if any(dialect.sign.search(text) and dialect.turn.search(text) for text in texts):
            return name
    return None


def parse_rendered(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """The conversation that was rendered. Raises `RowError` when the template is none that is known."""
    name = dialect_of(row)
    if name is None:
        known = ", ".join(DIALECTS)
        raise RowError("format not recognised", where, f"prompt is not rendered by a template of {known}")
    dialect = DIALECTS[name]
    conversation = Conversation(where, media)
    start = row["prompt"] if row.get("prompt") is not None else row["text"]
    ends = [row[side] for side in ("chosen", "rejected", "completion") if row.get(side) is not None]
    if any(not isinstance(text, str) for text in (start, *ends)):
        raise RowError("column has the wrong type", where, "rendered columns should be text")
    whole = [_turns(start + end, dialect) for end in ends or [""]]
    last_user = max((i for i, m in enumerate(whole[0]) if m["role"] == "user"), default=-1)
    prompt, responses = whole[0][: last_user + 1], [turns[last_user + 1 :] for turns in whole]
    if any(turns[: last_user + 1] != prompt or not turns[last_user + 1 :] for turns in whole) and ends:
        what = "chosen and rejected do not continue the prompt with an assistant's turn"
        raise RowError("response missing", where, what)
    messages, images = conversation.place(_with_pictures(prompt, dialect, conversation), picture_column(row))
    return Parsed(
        prompt=messages,
        images=images,
        responses=tuple(Response(messages=conversation.messages(r)) for r in responses if r),
        consumed=TEXT_COLUMNS,
    )


def _turns(text: str, dialect: Dialect) -> list[Message]:
    """The turns of a rendered text; a generation prompt without an answer is none."""
    turns = [(m.group(1).lower(), m.group(2).strip()) for m in dialect.turn.finditer(BEGINNING.sub("", text))]
    messages = [{"role": ROLES.get(role, role), "content": content} for role, content in turns]
    if messages and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()
    return messages


def _with_pictures(turns: list[Message], dialect: Dialect, conversation: Conversation) -> tuple[Message, ...]:
    tagged = [{**turn, "content": dialect.picture.sub("<image>", turn["content"])} for turn in turns]
    return conversation.messages(tagged, tags=True)
