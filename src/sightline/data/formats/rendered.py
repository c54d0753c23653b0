r"""Rows already rendered with a model's chat template: `'User:<image>how many?<end_of_utterance>\n'`.

The template is taken off again, so that such rows train any model and pass every check; the markup that is left in a
text is refused when the row is rendered. Read: the templates of Idefics and SmolVLM, ChatML (Qwen, InternVL), Llama 3,
Gemma and LLaVA-1.5, with or without its introduction, which is the system turn. Columns: `prompt, chosen, rejected`,
`prompt, completion`, or `text` for a whole conversation.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.content import ROLES, Conversation, Message
from sightline.data.formats.opening import opened
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media
from sightline.types import Response


@dataclass(frozen=True)
class Dialect:
    """One family of templates.

    sign: text that only its rows hold. turn: matches one turn, with its role (group 1) and text (group 2); of LLaVA's,
    which need no end, the beginning. image: matches what stands for an image.
    """

    sign: str
    turn: re.Pattern[str]
    image: re.Pattern[str]


def _dialect(sign: str, turn: str, image: str = "<image>") -> Dialect:
    return Dialect(sign, re.compile(turn, re.DOTALL), re.compile(image))


CHATML_IMAGE = r"<\|vision_start\|><\|image_pad\|><\|vision_end\|>|<img><IMG_CONTEXT></img>|<IMG_CONTEXT>|<image>"
DIALECTS = {
    "idefics": _dialect(
        "<end_of_utterance>",
        r"(?:<\|im_start\|>)?(System|User|Assistant): ?(.*?)(?:<end_of_utterance>|\Z)",
        r"<fake_token_around_image><image><fake_token_around_image>|<image>",
    ),
    "chatml": _dialect("<|im_start|>", r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", CHATML_IMAGE),
    "llama": _dialect(
        "<|start_header_id|>",
        r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n(.*?)(?:<\|eo[tm]_id\|>|\Z)",
        r"<\|image\|>",
    ),
    "gemma": _dialect(
        "<start_of_turn>", r"<start_of_turn>(\w+)\n(.*?)(?:<end_of_turn>|\Z)", r"\s*<start_of_image>\s*"
    ),
    "llava": _dialect("USER:", r"(?:(?<=\s)|(?<=</s>)|\A)(USER|ASSISTANT):()"),
}  # fmt: skip
TEXT_COLUMNS = ("prompt", "text", "chosen", "rejected", "completion")
BEGINNING = re.compile(r"^(?:<s>|<bos>|<\|begin_of_text\|>)\s*")
LLAVA_TURN = re.compile(r"(?:(?<=\s)|\A)USER:")
LONGEST_INTRODUCTION = 600
"""Characters that may stand before LLaVA's first turn; longer, and the words are a quotation."""


def dialect_of(row: Mapping[str, Any]) -> str | None:
    """The template that the row's texts are written in; None when they are plain."""
    texts = {column: row[column] for column in ("prompt", "text") if isinstance(row.get(column), str)}
    for name, dialect in DIALECTS.items():
        for column, text in texts.items():
            if dialect.sign not in text:
                continue
            if _is_llava(row, column, text) if name == "llava" else dialect.turn.search(text):
                return name
    return None


def _is_llava(row: Mapping[str, Any], column: str, text: str) -> bool:
    """Plain questions may quote `USER:`; a rendered prompt begins with it and leaves the assistant's turn open."""
    first = LLAVA_TURN.search(text, 0, LONGEST_INTRODUCTION)
    if first is None:
        return False
    answers = [row[name] for name in ("chosen", "completion") if isinstance(row.get(name), str)]
    is_open = text.rstrip().endswith("ASSISTANT:") or any(a.lstrip().startswith("ASSISTANT:") for a in answers)
    return is_open or (column == "text" and "ASSISTANT:" in text) or (first.start() == 0 and column == "prompt")


def parse_rendered(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """The conversation that was rendered. Raises `RowError` when the template is none that is known."""
    name = dialect_of(row)
    if name is None:
        known = ", ".join(DIALECTS)
        raise RowError("format not recognised", where, f"prompt is not rendered by a template of {known}")
    conversation = Conversation(where, media)
    start = row["prompt"] if row.get("prompt") is not None else row["text"]
    ends = [row[side] for side in ("chosen", "rejected", "completion") if row.get(side) is not None]
    if any(not isinstance(text, str) for text in (start, *ends)):
        raise RowError("column has the wrong type", where, "rendered columns should be text")
    whole = [_turns(start + end, name, where) for end in ends or [""]]
    last_user = max((i for i, m in enumerate(whole[0]) if m["role"] == "user"), default=-1)
    prompt, responses = whole[0][: last_user + 1], [turns[last_user + 1 :] for turns in whole]
    if any(turns[: last_user + 1] != prompt or not turns[last_user + 1 :] for turns in whole) and ends:
        what = "chosen and rejected do not continue the prompt with an assistant's turn"
        raise RowError("response missing", where, what)
    image = DIALECTS[name].image
    tagged = [{**turn, "content": image.sub("<image>", turn["content"])} for turn in prompt]
    messages = opened(row, conversation, conversation.messages(tagged, tags=True), tags=True)
    messages, images, found = conversation.place(messages, row)
    return Parsed(
        prompt=messages,
        images=images,
        responses=tuple(Response(messages=conversation.messages(r)) for r in responses if r),
        consumed=(*(name for name in TEXT_COLUMNS if name != "text" or row.get("prompt") is None), *found.read),
        image_columns=found.columns,
    )


def _turns(text: str, dialect: str, where: str) -> list[Message]:
    """The turns of a rendered text; a generation prompt without an answer is none. Raises `RowError`."""
    text = BEGINNING.sub("", text)
    matches = list(DIALECTS[dialect].turn.finditer(text))
    ends = [0, *(m.end() for m in matches)]
    starts = [*(m.start() for m in matches), len(text)]
    between = [text[end:start].strip() for end, start in zip(ends, starts, strict=True)]
    if dialect == "llava":
        turns = _llavas_turns([m.group(1).lower() for m in matches], between, where)
    else:
        turns = [(m.group(1).lower(), m.group(2).strip()) for m in matches]
        left = next((piece for piece in between if piece), None)
        if left is not None:
            raise RowError("row unreadable", where, f"{left!r:.80} stands outside the template's turns")
    messages = [{"role": ROLES.get(role, role), "content": content} for role, content in turns]
    if messages and messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()
    return messages


def _llavas_turns(roles: list[str], between: list[str], where: str) -> list[tuple[str, str]]:
    """Roles with the texts that follow them, after the introduction. Raises `RowError` unless they take turns."""
    if any(a == b for a, b in itertools.pairwise(roles)):
        what = "USER: and ASSISTANT: do not take turns; where a text quotes them, turns cannot be told"
        raise RowError("row unreadable", where, what)
    introduction = [("system", between[0])] if between[0] else []
    said = [text.removesuffix("</s>").strip() for text in between[1:]]
    return introduction + list(zip(roles, said, strict=True))
