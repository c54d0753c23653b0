"""Your own questions, asked as they are: no suffix, no truth, no score. Answers are stored, shown and compared.

A row: `question`, and `image` or `images` (paths next to the file, or in its image/), or none; `id` and `groups` if you
like.
"""

from pathlib import Path
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.task import Item, Task
from sightline.evaluation.tasks.files import field, find, image_in, read_rows, told_apart
from sightline.evaluation.tasks.short_answers import NAMES, WORDS
from sightline.scoring.ratio import amount


def questions(data: Path) -> Task:
    """The task of a file of questions, or of `questions.jsonl` in a folder. Its only figure is the answers' length."""
    path = data if data.is_file() else find(data, NAMES, "one JSON object a line: question, image")
    items, notes = told_apart(_item(path, row, number) for number, row in enumerate(read_rows(path), start=1))
    if not items:
        raise DataError(f"{path} has no questions. Write one JSON object a line, with `question` and `image`.")
    return Task(
        name="questions",
        title=f"Questions ({len(items):,}, not scored)",
        items=items,
        scorer=lambda item, text: {"words": amount(len(text.split()))},
        metrics=(WORDS,),
        correct="",
        otherwise=(),
        max_new_tokens=256,
        truth_text=lambda item: "",
        notes=notes,
    )


def _item(path: Path, row: dict[str, Any], number: int) -> Item:
    where = f"{path}, row {number}"
    question = field(row, ("question", "prompt", "text"), where)
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: the question is {question!r:.80}; a text is expected.")
    given = row.get("images") if row.get("images") is not None else row.get("image")
    names = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: the images are {given!r:.80}; paths are expected.")
    return Item(
        id=str(row.get("id", number)),
        question=question,
        truth=None,
        image_id="|".join(names) or f"no image, row {number}",
        images=tuple(image_in(path.parent, name, where) for name in names),
        groups=tuple(str(group) for group in row.get("groups", ())),
    )
