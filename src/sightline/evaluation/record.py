"""What a model said to one item, and the JSONL file that keeps it: one row an item, appended as answers come."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Task
from sightline.scoring.ratio import Ratio, Ratios


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer with its scores. prompt: the text that was asked. image_id: the cluster for intervals."""

    id: str
    groups: tuple[str, ...]
    image_id: str
    prompt: str
    answer: str
    scores: Ratios


def record(task: Task, item: Item, answer: str) -> Record:
    """Score an answer."""
    return Record(
        id=item.id,
        groups=item.groups,
        image_id=item.image_id,
        prompt=task.asked(item),
        answer=answer,
        scores=task.scorer(item, answer),
    )


def records_of(task: Task, answers: Sequence[tuple[Item, str]]) -> list[Record]:
    """Score several answers, `task.at_once` at a time."""
    if task.at_once == 1:
        return [record(task, item, text) for item, text in answers]
    with ThreadPoolExecutor(task.at_once) as pool:
        return list(pool.map(lambda one: record(task, *one), answers))


def rescored(task: Task, records: Sequence[Record]) -> list[Record]:
    """Records that were read from a file, with the scores that this task gives their answers.

    Truth, synonyms or the scorer may have changed since; a judge is not asked again. Raises `DataError` where an answer
    is to another prompt than this task's.
    """
    items = {item.id: item for item in task.items}
    found = []
    for one in records:
        item = items.get(one.id)
        if item is not None and one.prompt and one.prompt != task.asked(item):
            raise DataError(
                f"{task.name}: the stored answer to item {one.id} is to another prompt: {one.prompt[:80]!r}, not "
                f"{task.asked(item)[:80]!r}. Write to another folder, or remove the old answers."
            )
        found.append(one if item is None or task.at_once > 1 else record(task, item, one.answer))
    return found


def append(path: Path, records: Iterable[Record], origin: dict[str, Any]) -> None:
    """Add rows to the file; `origin` (model, settings, versions) goes into each, so that a row can be told from another
    model's wherever it ends up."""
    rows = [json.dumps({**vars(r), "origin": origin}, ensure_ascii=False) + "\n" for r in records]
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(rows))


def read(path: Path, origin: dict[str, Any] | None = None) -> list[Record]:
    """The rows of a file. A last line that was cut off while being written is left out, and removed from the file.

    Raises `DataError` where a row is damaged, or was written by another model or other settings than `origin`.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [_parse(line, f"{path}, line {number}", origin) for number, line in enumerate(whole.splitlines(), start=1)]


def _parse(line: str, where: str, origin: dict[str, Any] | None) -> Record:
    try:
        row = json.loads(line)
        found = row.pop("origin")
        row["image_id"] = row.pop("picture_id", None) or row["image_id"]  # its name in files of earlier versions
        row["scores"] = {name: Ratio(*ratio) for name, ratio in row["scores"].items()}
        parsed = Record(**{**row, "groups": tuple(row["groups"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where} is not an evaluation record ({type(error).__name__}: {error}). Expected a JSON object written by "
            "`sightline evaluate`. Delete the line, and the item is answered again."
        ) from error
    if origin is not None and found != origin:
        differing = sorted(k for k in {*origin, *found} if origin.get(k) != found.get(k))
        details = "; ".join(f"{k}: {found.get(k)} there, {origin.get(k)} now" for k in differing)
        raise DataError(
            f"{where} was answered under other conditions ({details}). Answers of one file must be of one model: give "
            "another output folder, or remove this file to start anew."
        )
    return parsed
