"""Reading the files of a benchmark's folder, with complaints that say which file is missing and where it comes from."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sightline.data.media.find import Media, image
from sightline.data.media.images import LazyImage
from sightline.errors import DataError
from sightline.evaluation.task import Item, Task


def find(folder: Path, names: Sequence[str], source: str) -> Path:
    """The first of `names` that is a file in the folder. Raises `DataError` saying where the benchmark comes from."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"There is no {names[0]} in {folder}. `--data` names the folder that holds the benchmark's own files "
        f"({source}), with the images in its subfolder image/."
    )


def read_json(path: Path) -> Any:
    """A JSON file. Raises `DataError` when it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}). Take the file from the benchmark again.") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON array, of JSON lines, or of a parquet file. Raises `DataError` naming the line."""
    if path.suffix == ".parquet":
        return _parquet(path)
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        rows = read_json(path)
    else:
        rows = [_row(line, f"{path}, line {n}") for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: expected a JSON object, got {type(row).__name__}.")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        return read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} is no parquet file ({error}).") from error


def _row(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({error}).") from error


def field(row: dict[str, Any], names: Sequence[str], where: str) -> Any:
    """The value of the first of `names` that the row has. Raises `DataError` listing them."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise DataError(f"{where} has no `{'` or `'.join(names)}`; it has {', '.join(map(repr, row)) or 'nothing'}.")


def yes_or_no(value: Any, where: str) -> Literal["yes", "no"]:
    """A label: yes or no in any case, true or false, 1 or 0. Raises `DataError` for anything else."""
    match str(value).strip().lower():
        case "yes" | "true" | "1" | "1.0":
            return "yes"
        case "no" | "false" | "0" | "0.0":
            return "no"
    raise DataError(f"{where}: the label is {value!r:.60}; yes or no is expected (or true and false, or 1 and 0).")


def answers_in(row: dict[str, Any], where: str) -> list[str]:
    """The accepted answers under `answers` or `answer`: texts, numbers, true and false (as yes and no), or objects with
    the text under `answer`, as VQAv2 and TextVQA write them. Raises `DataError` for none, or for anything else."""
    found = field(row, ("answers", "answer"), where)
    texts = [_answer(one) for one in (found if isinstance(found, list) else [found])]
    if not texts or None in texts:
        raise DataError(
            f"{where}: the answers are {found!r:.120}; a text is expected, a list of texts, or of objects with the "
            "text under `answer`."
        )
    return [text for text in texts if text is not None]


def _answer(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("answer")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, str | int | float) else None


def told_apart(items: Iterable[Item]) -> tuple[list[Item], tuple[str, ...]]:
    """The items, those whose id came before (an image's, of several questions) as id#2, id#3, and a note on it."""
    times: Counter[str] = Counter()
    found = []
    for item in items:
        times[item.id] += 1
        found.append(item if times[item.id] == 1 else replace(item, id=f"{item.id}#{times[item.id]}"))
    example = next((id for id, count in times.items() if count > 1), None)
    note = f"Ids repeat in the file: the second question of {example!r} is kept as {f'{example}#2'!r}, and so on."
    return found, () if example is None else (note,)


def image_in(folder: Path, name: str, where: str) -> LazyImage:
    """An image of the folder's image/, or of the folder itself where there is no image/; opened when needed."""
    images = folder / "image"
    return image(name, where, Media(folder=images if images.is_dir() else folder))


def missing_files(items: Iterable[Item]) -> list[Path]:
    """Files of images that items name and that are not there, each once."""
    paths = (p.path for item in items for p in item.images if isinstance(p, LazyImage))
    return [path for path in dict.fromkeys(paths) if path is not None and not path.is_file()]


def require_images(tasks: Iterable[Task]) -> None:
    """Raises `DataError` naming the first missing images and counting them: none is skipped in silence."""
    missing = missing_files(item for task in tasks for item in task.items)
    if missing:
        named = ", ".join(str(path) for path in missing[:3])
        raise DataError(
            f"{len(missing)} image(s) of the questions are missing, such as {named}. Put them there: without a "
            "image its questions cannot be asked, and leaving them out would change the score."
        )
