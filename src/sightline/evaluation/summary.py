"""From answers to figures: every metric, overall and by group, each with its 95% interval."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sightline.evaluation.record import Record, record
from sightline.evaluation.statistics import ratio_interval
from sightline.evaluation.task import OVERALL, Item, Metric, Task
from sightline.files import write_text
from sightline.scoring.interval import Interval
from sightline.scoring.ratio import EMPTY

Figures = dict[str, dict[str, Interval]]
"""Intervals by group and metric, in percent (or plain numbers, as the metric's unit says)."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A task's figures for one model.

    counts: items by group. baselines: figures of constant answers, by label, on the same items. official: what the
    benchmark's own script prints. unanswered: items of the task without an answer.
    """

    task: Task
    counts: dict[str, int]
    figures: Figures
    baselines: dict[str, Figures]
    official: dict[str, dict[str, float]]
    unanswered: int

    def overall(self, metric: str) -> Interval:
        """A metric over all items, in percent."""
        return self.figures[OVERALL][metric]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain dicts: `figures[group][metric] = {value, low, high}`."""
        return {
            "task": self.task.name,
            "title": self.task.title,
            "items": self.counts,
            "unanswered": self.unanswered,
            "figures": _plain(self.figures),
            "official": self.official,
            "baselines": {label: _plain(figures) for label, figures in self.baselines.items()},
            "published": {row.label: row.scores for row in self.task.published},
            "notes": list(self.task.notes),
        }


def summarise(task: Task, records: Sequence[Record]) -> Summary:
    """Figures of all answered items of the task, of each group, and of the task's baselines on the same items.

    Records of other items (a file of answers to more than a limited task asks) are left out.
    """
    by_id = {r.id: r for r in records}
    items = [item for item in task.items if item.id in by_id]
    records = [by_id[item.id] for item in items]
    answers = {r.id: r.answer for r in records}
    pairs = [(item, answers[item.id]) for item in items]
    return Summary(
        task=task,
        counts={group: len(places) for group, places in by_group(records).items()},
        figures=figures(task.metrics, records),
        baselines={label: _constant(task, items, answer) for label, answer in task.baselines.items()},
        official=task.official(pairs) if task.official is not None and pairs else {},
        unanswered=len(task.items) - len(items),
    )


def figures(metrics: Sequence[Metric], records: Sequence[Record]) -> Figures:
    """Every metric that some answer of the group has a part in, by group."""
    images = np.array([r.image_id for r in records], dtype=object)
    ratios = {}
    for metric in metrics:
        parts = chain.from_iterable(r.scores.get(metric.name, EMPTY) for r in records)
        ratios[metric] = np.fromiter(parts, dtype=np.float64, count=2 * len(records)).reshape(-1, 2)
    return {
        group: {
            metric.name: interval(metric, ratios[metric][members], images[members].tolist())
            for metric in metrics
            if ratios[metric][members, 1].any()
        }
        # group by group: one table of draws serves all its metrics
        for group, members in by_group(records).items()
    }


def by_group(records: Sequence[Record]) -> dict[str, list[int]]:
    """Places of all records under `all`, then of those of each group, in order of appearance."""
    places: dict[str, list[int]] = {OVERALL: list(range(len(records)))}
    for place, r in enumerate(records):
        for group in r.groups:
            places.setdefault(group, []).append(place)
    return places


def interval(metric: Metric, ratios: Float[np.ndarray, "answers 2"], images: Sequence[str]) -> Interval:
    """A metric from its answers' numerators and denominators, and the images that they are about."""
    numerators, denominators = ratios.T
    is_share = metric.unit == "percent"
    found = ratio_interval(numerators, denominators, images, is_share=is_share)
    return found.percent() if is_share else found


def write_summary(path: Path, task: Task, records: Sequence[Record], origin: dict[str, Any]) -> None:
    """The task's figures with intervals as one JSON file, whole or not at all."""
    found = {"origin": origin, **summarise(task, records).as_json()}
    write_text(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _constant(task: Task, items: Sequence[Item], answer: str) -> Figures:
    return figures(task.metrics, [record(task, item, answer) for item in items])


def _plain(found: Figures) -> dict[str, dict[str, dict[str, float]]]:
    return {group: {name: value._asdict() for name, value in row.items()} for group, row in found.items()}
