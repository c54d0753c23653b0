"""A summary as text for the terminal, within 80 columns: figures with intervals, baselines, groups, published rows."""

from collections.abc import Mapping, Sequence
from itertools import islice

from rich.table import Table

from sightline.evaluation.summary import Summary
from sightline.evaluation.task import OVERALL, Metric
from sightline.scoring.interval import Interval

NUM_SHOWN = 4
"""Metrics a group."""


def title(summary: Summary) -> str:
    """The task and how many of its items were answered."""
    return f"{summary.task.title}: {summary.counts[OVERALL]:,} items"


def table(summaries: Mapping[str, Summary]) -> Table:
    """Metrics downwards; across: the models by label and the constant answers, on the first model's items."""
    first = next(iter(summaries.values()))
    shown = Table(box=None, pad_edge=False)
    shown.add_column("")
    for heading in (*summaries, *first.baselines):
        shown.add_column(heading, justify="right")
    for metric in first.task.metrics:
        cells = [_cell(summary.figures[OVERALL].get(metric.name)) for summary in summaries.values()]
        if any(cells):
            cells += [_value(figures[OVERALL].get(metric.name)) for figures in first.baselines.values()]
            shown.add_row(metric.label, *cells)
    return shown


def group_tables(summary: Summary) -> list[Table]:
    """Groups downwards, their first metrics across, the first of them with its interval; a table for all groups that
    have the same metrics."""
    of_metrics: dict[tuple[Metric, ...], list[str]] = {}
    for group in (group for group in summary.figures if group != OVERALL):
        scores = (m for m in summary.task.metrics if m.better != "neither" and m.name in summary.figures[group])
        own = tuple(islice(scores, NUM_SHOWN))
        of_metrics.setdefault(own, []).append(group)
    return [_group_table(summary, metrics, groups) for metrics, groups in of_metrics.items() if metrics]


def _group_table(summary: Summary, metrics: Sequence[Metric], groups: Sequence[str]) -> Table:
    shown = Table(box=None, pad_edge=False)
    shown.add_column("")
    shown.add_column("items", justify="right")
    for metric in metrics:
        shown.add_column(metric.label, justify="right")
    for group in groups:
        first, *others = (summary.figures[group].get(metric.name) for metric in metrics)
        shown.add_row(group, f"{summary.counts[group]:,}", _cell(first), *map(_value, others))
    return shown


def published(summary: Summary) -> list[str]:
    """What papers report, a line each, marked as such."""
    labels = {metric.name: metric.label for metric in summary.task.metrics}
    return [
        f"Published: {row.label}  " + ", ".join(f"{labels[name]} {value:.1f}" for name, value in row.scores.items())
        for row in summary.task.published
    ]


def official(summary: Summary) -> list[str]:
    """What the benchmark's own script would print, over all items."""
    figures = summary.official.get("all", {})
    return ["Official scorer: " + ", ".join(f"{name} {value}" for name, value in figures.items())] if figures else []


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _value(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.value:.1f}"
