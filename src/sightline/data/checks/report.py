"""The report of a data check: what is there, and every defect with name, count, first rows and fix."""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from sightline.data.checks.duplicates import Duplicates
from sightline.data.checks.examine import Examiner, Facts
from sightline.data.checks.shortcuts import Shortcuts
from sightline.data.defects import FIXES
from sightline.data.processes import map_in_processes
from sightline.data.rows import Entry

FIRST_ROWS = 10
"""Rows that are named of each defect."""


@dataclass
class Defect:
    """One kind of defect: how often, its first rows, and the message of the first."""

    name: str
    count: int = 0
    rows: list[str] = field(default_factory=list)
    example: str = ""

    @property
    def fix(self) -> str:
        """What to do about it."""
        return FIXES[self.name]

    def add(self, row: str, message: str = "") -> None:
        """One more, in this row."""
        self.count += 1
        self.example = self.example or message
        if len(self.rows) < FIRST_ROWS and row not in self.rows:
            self.rows.append(row)


@dataclass
class Report:
    """What a check has seen; `add` a row at a time, `finish` at the end.

    num_rows by split; num_images; sizes as widths and heights; characters of prompts, chosen and rejected (or only)
    responses; tokens a row, where a model was named; scripts and formats with their rows.
    """

    num_rows: Counter[str] = field(default_factory=Counter)
    num_images: int = 0
    widths: array = field(default_factory=lambda: array("i"))
    heights: array = field(default_factory=lambda: array("i"))
    lengths: dict[str, array] = field(default_factory=dict)
    tokens: array = field(default_factory=lambda: array("i"))
    scripts: Counter[str] = field(default_factory=Counter)
    formats: dict[str, str] = field(default_factory=dict)
    shortcuts: Shortcuts = field(default_factory=Shortcuts)
    duplicates: Duplicates = field(default_factory=Duplicates)
    defects: dict[str, Defect] = field(default_factory=dict)

    def add(self, facts: Facts, split: str) -> None:
        """Take in one row of a split."""
        self.num_rows[split] += 1
        for name, message in facts.defects:
            self._defect(name).add(facts.id, message)
        for name, earlier in self.duplicates.add(facts, split):
            self._defect(name).add(facts.id, f"{facts.id} repeats {earlier}" if earlier else "")
        self.num_images += len(facts.glances)
        for seen in facts.glances:
            self.widths.append(seen.size[0])
            self.heights.append(seen.size[1])
        names = ("prompt", "chosen", "rejected") if len(facts.num_characters) == 3 else ("prompt", "response")
        for name, length in zip(names, facts.num_characters, strict=False):
            self.lengths.setdefault(name, array("i")).append(length)
        if facts.num_tokens is not None:
            self.tokens.append(facts.num_tokens)
        self.scripts.update(facts.scripts)
        if len(facts.num_characters) == 3:
            self.shortcuts.add(facts.num_characters[1], facts.num_characters[2], facts.words)

    def finish(self) -> "Report":
        """Find what shows only in all rows together: images in two splits, length bias, one-word shortcuts."""
        for row, other in self.duplicates.across_splits():
            self._defect("image in two splits").add(other, f"{other} shows the image of {row}")
        if self.shortcuts.is_length_biased:
            bias = self._defect("length bias")
            bias.count, bias.example = self.shortcuts.num_pairs, self.length_sentence
        for word in self.shortcuts.words():
            share = f"{100 * max(word.chosen_share, 1 - word.chosen_share):.0f}%"
            side = "chosen" if word.chosen_share > 0.5 else "rejected"
            message = f"{word.word!r}: in only one side of {word.num_pairs} pairs, in {share} of them the {side} one"
            shortcut = self._defect("one-word shortcut")
            shortcut.count += 1
            shortcut.example = shortcut.example or message
        return self

    @property
    def length_sentence(self) -> str:
        """How length relates to preference."""
        share, accuracy = 100 * self.shortcuts.chosen_longer, 100 * self.shortcuts.length_accuracy
        return f"chosen is longer in {share:.1f}% of pairs; a classifier that sees only length scores {accuracy:.1f}%"

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects

    def as_json(self) -> dict[str, Any]:
        """`{rows, defects: [{name, count, rows, fix}]}` and the figures."""
        shortcuts = self.shortcuts
        return {
            "rows": self.num_rows.total(),
            "defects": [
                {"name": d.name, "count": d.count, "rows": d.rows, "fix": d.fix, "example": d.example}
                for d in self.sorted_defects()
            ],
            "splits": dict(self.num_rows),
            "formats": self.formats,
            "images": self.num_images,
            "width": spread(self.widths),
            "height": spread(self.heights),
            "characters": {name: spread(values) for name, values in self.lengths.items()},
            "tokens": spread(self.tokens),
            "scripts": dict(self.scripts.most_common()),
            "pairs": shortcuts.num_pairs,
            "chosen_longer": round(shortcuts.chosen_longer, 4) if shortcuts.num_pairs else None,
            "length_only_accuracy": round(shortcuts.length_accuracy, 4) if shortcuts.num_pairs else None,
            "one_word_shortcuts": [word._asdict() for word in shortcuts.words()],
        }

    def sorted_defects(self) -> list[Defect]:
        """Most frequent first."""
        return sorted(self.defects.values(), key=lambda d: (-d.count, d.name))

    def _defect(self, name: str) -> Defect:
        return self.defects.setdefault(name, Defect(name))


def check_rows(splits: dict[str, Iterable[Entry]], examiner: Examiner, *, num_processes: int = 1) -> Report:
    """Read every row of every split, in constant memory but for about a kilobyte a row, and report."""
    report = Report()
    for split, entries in splits.items():
        for facts in map_in_processes(examiner, entries, num_processes):
            report.add(facts, split)
    return report.finish()


def spread(values: array) -> dict[str, int | float] | None:
    """Least, median, 95th percentile and greatest; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    high = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
    return {"min": ordered[0], "median": median(ordered), "p95": high, "max": ordered[-1]}
