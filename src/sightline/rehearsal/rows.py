"""A few rows in any format that data may have, with drawn images in them: what a rehearsal reads in place of a hub's.

The columns are those of the data sets that made each format known (docs/data.md). Rows for objectives that sample their
own answers carry the truth as `solution`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sightline.scenes.image import image_of
from sightline.scenes.questions import describe, description, existence
from sightline.scenes.world import draw_scene

Row = dict[str, Any]
Kind = Literal["pairs", "demonstrations", "prompts", "labelled"]


ASKED_AT_LENGTH = (
    "Look at the whole image before you answer: at the middle and at every corner, at what stands in front and at what "
    "stands behind it. Name each object by its color and its shape, from the left to the right and from the top to the "
    "bottom, and name nothing that is not there, however well it would fit. "
)
SAID_AT_LENGTH = (
    " Each of them stands alone on a plain ground, with some noise in it; none hides another, none is cut by the edge, "
    "and there are neither words nor people in the image. What is named here was seen, and not guessed from the rest."
)
"""Made-up rows are longer than the length from which rows take another way through the code
(`attention.SMALLEST_GROUP`), as real ones are."""
LABELLED = ("kto", "sharegpt", "alpaca")
"""Formats that know single answers with a label; the others have pairs for the objectives that read those."""


def write_rows(
    path: Path,
    format: str,
    kind: Kind,
    count: int,
    *,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    is_long: bool = True,
) -> Path:
    """A parquet file of `count` rows. columns: what the format calls a column → what the file is to call it.

    is_long: whether they are as long as real rows, which a small `data.max_length` would refuse.
    """
    if kind == "labelled" and format not in LABELLED:
        kind = "pairs"
    made = [WRITERS[format](about, kind) for about in _scenes(count, seed, is_long)]
    named = [{(columns or {}).get(name, name): value for name, value in row.items()} for row in made]
    pq.write_table(pa.Table.from_pylist(named), path)
    return path


def _scenes(count: int, seed: int, is_long: bool) -> list[Row]:
    """What rows are made of: an image as `{bytes, path}`, a question, a true answer and a false one, a label."""
    ask, say = (ASKED_AT_LENGTH, SAID_AT_LENGTH) if is_long else ("", "")
    random = np.random.RandomState([seed, 3])
    made = []
    for index in range(count):
        scene = draw_scene(seed, index)
        asked = description(scene) if index % 2 else existence(scene, "absent", random)
        wrong = "Yes" if asked.kind == "existence" else describe((*scene.objects, *scene.companions))
        made.append(
            {
                "image": {"bytes": image_of(scene).png(), "path": f"{index}.png"},
                "question": ask + asked.text,
                "truth": asked.answer,
                "true": asked.answer + ("" if asked.kind == "existence" else say),
                "false": (wrong if wrong != asked.answer else "Nothing at all.")
                + ("" if asked.kind == "existence" else say),
                "label": index % 4 < 2,
                "objects": [str(thing) for thing in scene.objects],
            }
        )
    return made


def _columns(about: Row, kind: Kind, *, tag: str = "") -> Row:
    row = {"image": about["image"], "question": tag + about["question"]}
    match kind:
        case "pairs":
            return {**row, "chosen": about["true"], "rejected": about["false"]}
        case "demonstrations":
            return {**row, "answer": [about["true"]]}
    return {**row, "solution": about["truth"], "objects": about["objects"]}


def _mmpr(about: Row, kind: Kind) -> Row:
    return _columns(about, kind, tag="<image>\n")


def _conversational(about: Row, kind: Kind) -> Row:
    """TRL: messages of content parts, images in a column of their own."""
    asked = [_turn("user", [{"type": "image", "text": None}, {"type": "text", "text": about["question"]}])]
    row = {"images": [about["image"]]}
    match kind:
        case "pairs":
            return {**row, "prompt": asked, "chosen": _parts(about["true"]), "rejected": _parts(about["false"])}
        case "demonstrations":
            return {**row, "messages": [*asked, *_parts(about["true"])]}
    return {**row, "prompt": asked, "solution": about["truth"], "objects": about["objects"]}


def _openai(about: Row, kind: Kind) -> Row:
    """Messages of plain text with a tag where the image is."""
    row = _conversational(about, kind)
    asked = [_turn("user", "<image>" + about["question"])]
    sides = [name for name in ("chosen", "rejected") if name in row]
    plain = {name: [_turn("assistant", row[name][0]["content"][0]["text"])] for name in sides}
    if "messages" in row:
        return {**row, "messages": [*asked, _turn("assistant", about["true"])]}
    return {**row, **plain, "prompt": asked}


def _sharegpt(about: Row, kind: Kind) -> Row:
    """RLHF-V as LLaMA-Factory keeps it."""
    turns = [{"from": "human", "value": "<image>" + about["question"]}]
    row = {"images": [about["image"]]}
    match kind:
        case "pairs":
            sides = {name: {"from": "gpt", "value": about[truth]} for name, truth in SIDES}
            return {**row, "conversations": turns, **sides}
        case "demonstrations":
            return {**row, "conversations": [*turns, {"from": "gpt", "value": about["true"]}]}
        case "labelled":
            said = {"from": "gpt", "value": _said(about)}
            return {**row, "conversations": [*turns, said], "kto_tag": about["label"]}
    return {**row, "conversations": turns, "solution": about["truth"], "objects": about["objects"]}


SIDES = (("chosen", "true"), ("rejected", "false"))


def _alpaca(about: Row, kind: Kind) -> Row:
    row = {"instruction": "<image>" + about["question"], "input": "", "images": [about["image"]]}
    match kind:
        case "pairs":
            return {**row, **{name: about[truth] for name, truth in SIDES}}
        case "demonstrations":
            return {**row, "output": about["true"]}
        case "labelled":
            return {**row, "output": _said(about), "kto_tag": about["label"]}
    return {**row, "solution": about["truth"], "objects": about["objects"]}


def _kto(about: Row, kind: Kind) -> Row:
    row = {"images": [about["image"]], "prompt": about["question"]}
    return {**row, "completion": _said(about), "label": about["label"]}


def _rendered(about: Row, kind: Kind) -> Row:
    """Texts that a chat template has been through already, as Idefics writes them."""
    prompt = f"User:<image>{about['question']}<end_of_utterance>\n"
    sides = {name: f"Assistant: {about[truth]}<end_of_utterance>\n" for name, truth in SIDES}
    row = {"images": [about["image"]], "prompt": prompt}
    match kind:
        case "pairs":
            return {**row, **sides}
        case "demonstrations":
            return {**row, "completion": sides["chosen"]}
    return {**row, "solution": about["truth"], "objects": about["objects"]}


def _said(about: Row) -> str:
    """The answer that a labelled row has: the true one where the label says so."""
    return about["true"] if about["label"] else about["false"]


def _turn(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


def _parts(text: str) -> list[Row]:
    return [_turn("assistant", [{"type": "text", "text": text}])]


WRITERS: dict[str, Callable[[Row, Kind], Row]] = {
    "columns": _columns,
    "mmpr": _mmpr,
    "conversational": _conversational,
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "kto": _kto,
    "rendered": _rendered,
}
"""By the names of `data.format`."""
