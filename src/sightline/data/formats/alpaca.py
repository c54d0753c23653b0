"""Alpaca columns: `instruction, input, output, history, system`, with `<image>` tags; pairs in `chosen` and `rejected`.

LLaMA-Factory's registry hands its columns over under these names; `kto_tag` labels the output.
"""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.columns import text_pair, text_response
from sightline.data.formats.content import Conversation
from sightline.data.formats.labels import labelled
from sightline.data.formats.opening import opened
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media

CONSUMED = ("instruction", "input", "chosen", "rejected")


def parse_alpaca(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """Instruction and input, a line break between them, as the last user turn. Raises `RowError`."""
    conversation = Conversation(where, media)
    asked = [row[name] for name in ("instruction", "input") if row.get(name)]
    if any(not isinstance(text, str) for text in asked):
        raise RowError("column has the wrong type", where, "instruction and input should be text")
    prompt = opened(row, conversation, (), tags=True)
    prompt += conversation.messages([{"role": "user", "content": "\n".join(asked)}], tags=True)
    output = row.get("output")
    if row.get("chosen") is not None or row.get("rejected") is not None:
        responses = text_pair(row, conversation)
    elif isinstance(output, list | tuple) and len(output) == 2:  # LLaMA-Factory's older pairs
        responses = text_pair({"chosen": output[0], "rejected": output[1]}, conversation)
    else:
        responses = () if output is None else (text_response(output, conversation),)
    prompt, images, found = conversation.place(prompt, row)
    parsed = Parsed(
        prompt=prompt,
        images=images,
        responses=responses,
        consumed=(*CONSUMED, *found.read),
        image_columns=found.columns,
    )
    return labelled(parsed, row, "kto_tag", where) if "kto_tag" in row else parsed
