"""Answers side by side: one self-contained HTML page for any number of models on the same questions.

On top what is significant, below every question with its image, the models' answers in columns, words that the first
model did not say, hallucinated words marked, and filters such as "A right, B wrong". No request leaves the page.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sightline.evaluation.comparison import PairedTest, compare
from sightline.evaluation.record import Record
from sightline.evaluation.summary import Summary, summarise
from sightline.evaluation.task import OVERALL, Item, Task
from sightline.evaluation.tasks.files import missing_files
from sightline.files import page, write_text
from sightline.report.contents import Column, Comparison, Judgement, ModelRow
from sightline.report.curves import CHARTS, Curve, draw_contrast, read_metrics
from sightline.report.html import FILTERS
from sightline.scoring.interval import Interval
from sightline.scoring.word_diff import common_words

COMPARED = ("loss", "reward_accuracy", "reward", "entropy")
"""Charts of `report.curves` that say something when several runs stand in them."""

THUMBNAIL = 320
"""Pixels of a thumbnail's longer side; a smaller image is kept as it is."""


class Piece(NamedTuple):
    """Words of an answer that are shown alike. change: what the first model has there. hallucinated: to be marked."""

    text: str
    change: str
    hallucinated: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model's answer to one question. right: None where no answer is right or wrong."""

    pieces: tuple[Piece, ...]
    right: bool | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question with every model's answer, in the models' order."""

    id: str
    text: str
    truth: str
    groups: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Card:
    """An image with its questions. image: PNG or JPEG bytes, None where it could not be read."""

    image: bytes | None
    name: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One task. summaries: by the models' labels. total: questions that the figures are of; cards may show fewer."""

    title: str
    summaries: dict[str, Summary]
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[ModelRow, ...]
    tests: tuple[PairedTest, ...]
    comparisons: tuple[Comparison, ...]
    judgements: tuple[Judgement, ...]
    cards: tuple[Card, ...]
    groups: tuple[str, ...]
    total: int

    @property
    def num_shown(self) -> int:
        return sum(len(card.questions) for card in self.cards)


def section(
    task: Task, answers: dict[str, list[Record]], *, judgements: Sequence[Judgement] = (), show: int = 300
) -> Section:
    """A task's section: figures over all answers, and up to `show` questions, those that models differ on first.

    answers: records by the models' labels; the first is what the others are compared with.
    """
    labels = list(answers)
    tests = tuple(compare(task, answers[labels[0]], answers[label]) for label in labels[1:])
    by_id = [{r.id: r for r in records} for records in answers.values()]
    items = [item for item in task.items if all(item.id in records for records in by_id)]
    chosen = _most_telling(task, items, by_id, show)
    summaries = {label: summarise(task, records) for label, records in answers.items()}
    by = next((m.label for m in task.metrics if m.name == task.correct), task.correct)
    return Section(
        title=task.title,
        summaries=summaries,
        notes=task.notes,
        columns=tuple(
            Column(key=m.name, label=m.label, better=m.better, explanation=m.explanation, unit=m.unit)
            for m in task.metrics
            if any(m.name in s.figures[OVERALL] for s in summaries.values())
        ),
        rows=_rows(summaries),
        tests=tests,
        comparisons=tuple(
            Comparison(a=labels[0], b=label, on=f"{t.judged:,} answers ({by})", test=t.mcnemar, smallest=t.smallest)
            for label, t in zip(labels[1:], tests, strict=True)
            if t.judged
        ),
        judgements=tuple(judgements),
        cards=_cards(task, chosen, by_id),
        groups=tuple(dict.fromkeys(group for item in chosen for group in item.groups)),
        total=len(items),
    )


def write_comparison(
    path: Path, sections: Sequence[Section], models: Sequence[str], title: str, curves: Sequence[Curve] = ()
) -> None:
    """Write the page; it appears whole or not at all. curves: of the models' training, all in one chart each."""
    write_text(
        path,
        page(
            "sightline.report",
            "comparison.html.j2",
            FILTERS,
            sections=sections,
            models=list(models),
            title=title,
            curves=curves,
        ),
    )


def training_curves(runs: Mapping[str, Path]) -> list[Curve]:
    """Loss and rewards of several runs, a line each. runs: label → metrics.jsonl."""
    metrics = {label: read_metrics(path) for label, path in runs.items()}
    drawn = [draw_contrast(chart, metrics) for chart in CHARTS if chart.name in COMPARED]
    return [curve for curve in drawn if curve is not None]


def word_difference(text: str, base: str, hallucinated: Sequence[str] = ()) -> tuple[Piece, ...]:
    """The words of `text`, each marked `new` where `base` has none like it, with base's words that are gone (`gone`).

    Words that stand together and look alike are joined. A difference of case or of a trailing comma is none.
    """
    is_marked = _marked_characters(text, hallucinated)
    words, base_words = list(re.finditer(r"\S+", text)), base.split()
    common = common_words([_plain(word.group()) for word in words], [_plain(word) for word in base_words])
    kept = [place for place, is_kept in enumerate(common.theirs) if is_kept]
    pieces: list[Piece] = []
    for start, end, until in _stretches(common.ours, kept, len(base_words)):
        pieces += [Piece(word, "gone", False) for word in base_words[until.start : until.stop]]
        pieces += [
            Piece(w.group(), "" if place == end else "new", any(is_marked[w.start() : w.end()]))
            for place, w in enumerate(words[start : end + 1], start=start)
        ]
    alike = groupby(pieces, key=lambda piece: piece[1:])
    return tuple(Piece(" ".join(p.text for p in run), *look) for look, run in alike)


def _stretches(is_common: Sequence[bool], kept: Sequence[int], num_base: int) -> Iterator[tuple[int, int, range]]:
    """Per word that both have, and once for the rest: from which of our words on, that word, base's words that are gone
    before it. kept: places in the base of the words that both have."""
    start, gone = 0, 0
    ends = [place for place, common in enumerate(is_common) if common]
    for end, place in zip([*ends, len(is_common)], [*kept, num_base], strict=True):
        yield start, end, range(gone, place)
        start, gone = end + 1, place + 1


def thumbnail(image: Image.Image) -> bytes:
    """PNG of a small image, as it is; JPEG of at most THUMBNAIL pixels of a larger one."""
    buffer = BytesIO()
    if max(image.size) <= 96:
        image.save(buffer, "PNG")
    else:
        smaller = image.copy()
        smaller.thumbnail((THUMBNAIL, THUMBNAIL))
        smaller.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _plain(word: str) -> str:
    return word.lower().rstrip(".,;:!?")


def _marked_characters(text: str, phrases: Sequence[str]) -> bytearray:
    """Of each character, whether it is part of one of the phrases."""
    marked = bytearray(len(text))
    for phrase in filter(None, phrases):
        for match in re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE):
            marked[match.start() : match.end()] = b"\1" * (match.end() - match.start())
    return marked


def _rows(summaries: dict[str, Summary]) -> tuple[ModelRow, ...]:
    """Models, then the constant answers (of the first model's items), then rows from papers."""
    first = next(iter(summaries.values()))
    models = [ModelRow(label=label, scores=dict(s.figures[OVERALL])) for label, s in summaries.items()]
    constant = [ModelRow(label=label, scores=dict(f[OVERALL]), kind="baseline") for label, f in first.baselines.items()]
    papers = [
        ModelRow(
            label=row.label,
            scores={n: Interval(v, v, v) for n, v in row.scores.items()},
            note="published, not measured here",
            kind="published",
        )
        for row in first.task.published
    ]
    return (*models, *constant, *papers)


def _most_telling(task: Task, items: list[Item], by_id: list[dict[str, Record]], show: int) -> list[Item]:
    """At most `show` items in their order, preferring those that some model got right and another wrong."""

    def dullness(item: Item) -> tuple[bool, bool]:
        records = [records[item.id] for records in by_id]
        alike = len({task.is_right(r.scores) for r in records}) == 1
        return alike, len({r.answer for r in records}) == 1

    if len(items) <= show:
        return items
    chosen = {item.id for item in sorted(items, key=dullness)[:show]}
    return [item for item in items if item.id in chosen]


def _cards(task: Task, items: list[Item], by_id: list[dict[str, Record]]) -> tuple[Card, ...]:
    grouped: dict[str, list[Item]] = {}
    for item in items:
        grouped.setdefault(item.image_id, []).append(item)
    return tuple(
        Card(
            image=_thumbnail_of(members[0]),
            name=name,
            questions=tuple(_question(task, item, by_id) for item in members),
        )
        for name, members in grouped.items()
    )


def _thumbnail_of(item: Item) -> bytes | None:
    """None where there is no image, or its file is not here: stored answers are compared without it."""
    if not item.images or missing_files([item]):
        return None
    return thumbnail(item.images[0].open())


def _question(task: Task, item: Item, by_id: list[dict[str, Record]]) -> Question:
    records = [records[item.id] for records in by_id]
    cells = (
        Cell(
            pieces=word_difference(r.answer, records[0].answer, task.marks(item, r.answer)),
            right=task.is_right(r.scores) if task.correct else None,
        )
        for r in records
    )
    return Question(id=item.id, text=item.question, truth=task.truth_text(item), groups=item.groups, cells=tuple(cells))
