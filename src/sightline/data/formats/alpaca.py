"""Alpaca columns: `instruction, input, output, history, system`, with `<image>` tags; pairs in `chosen` and `rejected`.

LLaMA-Factory's registry hands its columns over under these names; `kto_tag` labels the output.
"""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.columns import text_pair, text_response
from sightline.data.formats.content import Conversation, Message
from sightline.data.formats.kto import labelled
from sightline.data.formats.names import picture_column
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media

CONSUMED = ("instruction", "input", "history", "system", "chosen", "rejected")


def parse_alpaca(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """Instruction and input, a line break between them, as the last user turn. Raises `RowError`."""
    conversation = Conversation(where, media)
    turns: list[Message] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    turns += _history(row.get("history"), where)
    asked = [row[name] for name in ("instruction", "input") if row.get(name)]
    if any(not isinstance(text, str) for text in asked):
        raise RowError("column has the wrong type", where, "instruction and input should be text")
    turns.append({"role": "user", "content": "\n".join(asked)})
    prompt, images = conversation.place(conversation.messages(turns, tags=True), picture_column(row))
    parsed = Parsed(prompt=prompt, images=images, consumed=CONSUMED)
    output = row.get("output")
    if row.get("chosen") is not None or row.get("rejected") is not None:
        responses = text_pair(row, where)
    elif isinstance(output, list | tuple) and len(output) == 2:  # LLaMA-Factory's older pairs
        responses = text_pair({"chosen": output[0], "rejected": output[1]}, where)
    elif output is not None:
        responses = (text_response(output, where),)
    else:
        return parsed
    parsed = Parsed(prompt=prompt, images=images, responses=responses, consumed=CONSUMED)
    if isinstance(row.get("kto_tag"), bool) and len(responses) == 1:
        return labelled(parsed, row["kto_tag"])
    return parsed


def _history(value: Any, where: str) -> list[Message]:
    """Earlier questions and answers, `[[question, answer], …]`."""
    turns: list[Message] = []
    for exchange in value if isinstance(value, list | tuple) else []:
        if not isinstance(exchange, list | tuple) or len(exchange) != 2:
            raise RowError("column has the wrong type", where, "history is a list of [question, answer]")
        turns += [{"role": "user", "content": exchange[0]}, {"role": "assistant", "content": exchange[1]}]
    return turns
