"""From answers to figures: every metric, overall and by group, each with its 95% interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.evaluation.record import Record, record
from sightline.evaluation.statistics import Interval, clustered_bootstrap, wilson
from sightline.evaluation.task import OVERALL, Item, Metric, Task
from sightline.scoring.ratio import Ratio

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
    """Figures of all records, of each group, and of the task's baselines on the items that were answered."""
    answered = {r.id for r in records}
    items = [item for item in task.items if item.id in answered]
    answers = {r.id: r.answer for r in records}
    pairs = [(item, answers[item.id]) for item in items]
    return Summary(
        task=task,
        counts={group: len(members) for group, members in by_group(records).items()},
        figures=figures(task.metrics, records),
        baselines={label: _constant(task, items, answer) for label, answer in task.baselines.items()},
        official=task.official(pairs) if task.official is not None and pairs else {},
        unanswered=len(task.items) - len(items),
    )


def figures(metrics: Sequence[Metric], records: Sequence[Record]) -> Figures:
    """Every metric that some answer of the group has a part in."""
    return {
        group: {m.name: interval(m, members) for m in metrics if any(_ratio(r, m).denominator for r in members)}
        for group, members in by_group(records).items()
    }


def by_group(records: Iterable[Record]) -> dict[str, list[Record]]:
    """All records under `all`, then those of each group, in order of appearance."""
    grouped: dict[str, list[Record]] = {OVERALL: []}
    for r in records:
        for group in (OVERALL, *r.groups):
            grouped.setdefault(group, []).append(r)
    return grouped


def interval(metric: Metric, records: Sequence[Record]) -> Interval:
    """A metric over these records: Wilson's interval for a rate, else a bootstrap over pictures."""
    ratios = [_ratio(r, metric) for r in records]
    concerned = [q for q in ratios if q.denominator]
    is_share = metric.unit == "percent"
    if is_share and all(q in (Ratio(0, 1), Ratio(1, 1)) for q in concerned):
        return wilson(int(sum(q.numerator for q in concerned)), len(concerned)).percent()
    numerators, denominators = zip(*ratios, strict=True)
    pictures = [r.picture_id for r in records]
    found = clustered_bootstrap(numerators, denominators, pictures, is_share=is_share)
    return found.percent() if is_share else found


def _ratio(r: Record, metric: Metric) -> Ratio:
    return r.scores.get(metric.name, Ratio(0.0, 0.0))


def _constant(task: Task, items: Sequence[Item], answer: str) -> Figures:
    return figures(task.metrics, [record(task, item, answer) for item in items])


def _plain(found: Figures) -> dict[str, dict[str, dict[str, float]]]:
    return {group: {name: value._asdict() for name, value in row.items()} for group, row in found.items()}
