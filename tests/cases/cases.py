"""What a public report becomes here: rows as a file has them, and what is right for each. See README.md."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from sightline.config.data import DataConfig
from sightline.data.checks.check import check_example
from sightline.data.defects import FIXES, RowError
from sightline.data.rows import Rows
from sightline.data.sources.load import load_rows
from sightline.types import Example

COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


class Case(NamedTuple):
    """One report's situation.

    kind: what goes wrong. report: where it was reported, or "" for a neighbor of a reported case. rows: each row of a
    JSON Lines file, with what is read of it (see `said`) or the name of its defect; images are `red.png`, `green.png`
    and `blue.png` beside the file. data: further fields of the recipe's `data`.
    """

    kind: str
    report: str
    rows: list[tuple[Any, str]]
    data: dict[str, Any] | None = None


def paint(folder: Path) -> Path:
    """The images of the cases in a folder."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (32, 32), colour).save(folder / f"{name}.png")
    return folder


def rows_in(folder: Path, case: Case) -> Rows:
    """The case's rows, written to a file and read again."""
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row, _ in case.rows), encoding="utf-8")
    return load_rows(DataConfig(source=str(file), **(case.data or {})))


def outcome(rows: Rows, index: int) -> str:
    """What is read of a row, or the name of its defect; a defect has a fix and names the row."""
    try:
        example = rows.example(index)
        check_example(example, len(example.responses))
        return said(example)
    except RowError as error:
        assert FIXES[error.defect] in str(error) and f"row {index}" in error.where
        return error.defect


def said(example: Example) -> str:
    """`user: {red}Which color? -> Red.`: turns with an image's color where it stands, responses after arrows.

    An assistant's turn that is not trained is followed by `(0)`; a label by `+` or `-`.
    """
    images = iter(_colour(image.open()) for image in example.images)

    def text(message: dict[str, Any]) -> str:
        parts = (f"{{{next(images)}}}" if p["type"] == "image" else p["text"] for p in message["content"])
        return "".join(parts) + ("" if message.get("weight", 1) == 1 else f"({message['weight']:g})")

    prompt = " | ".join(f"{message['role']}: {text(message)}" for message in example.prompt)
    answers = []
    for response in example.responses:
        turns = [m if isinstance(m, str) else text(m) for m in response.messages]
        sign = {True: " +", False: " -", None: ""}[response.label]
        answers.append(" | ".join(turns) + sign)
    return " -> ".join([prompt, *answers])


def _colour(image: Image.Image) -> str:
    pixel = image.getpixel((image.width // 2, image.height // 2))
    return next((name for name, colour in COLOURS.items() if colour == pixel), str(pixel))
