"""What was answered and judged so far, in files that only grow: a command that is killed goes on from there.

A file is JSON lines: what the records depend on, then one record a batch of prompts. A record is written at once and
read back whole or not at all, so that a batch that was under way is done again with the same random numbers.
"""

import json
import os
from pathlib import Path
from typing import Any

from sightline.errors import DataError, shown

KEPT = "_pairs"
"""Folder of journals, replies and summary inside the data set's; data readers pass over names with an underscore."""


class Journal:
    """Records by their number. about: what they depend on, plain values.

    Raises `DataError` where the file holds records that depend on something else, naming it.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.records: dict[int, Any] = {}
        about = json.loads(json.dumps(about))
        found = _lines(path)
        if not found:
            self._append(about)
            return
        if found[0] != about:
            self._refuse(found[0], about)
        self.records = dict(found[1:])

    def add(self, number: int, record: Any) -> None:
        """Keep a record for good."""
        self._append([number, record])
        self.records[number] = record

    def _append(self, line: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _refuse(self, before: Any, now: dict[str, Any]) -> None:
        before = before if isinstance(before, dict) else {}
        differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        said = "; ".join(
            f"{name} is {shown(json.dumps(now.get(name)), 80)}, was {shown(json.dumps(before.get(name)), 80)}"
            for name in differing
        )
        raise DataError(
            f"{self.path} holds completions that were made under other conditions ({said}). Pairs of one folder come "
            "from one model, one set of prompts and one sampler: choose another --output, or empty this one with "
            "--overwrite-output-dir."
        )


def _lines(path: Path) -> list[Any]:
    """The whole lines of a file; one that was cut off while it was written is removed."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    try:
        return [json.loads(line) for line in whole.decode().splitlines()]
    except ValueError as error:
        raise DataError(
            f"{path} is damaged ({shown(error)}). Remove it: what it held is sampled or judged again."
        ) from None
