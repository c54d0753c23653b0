"""A summary as text for the terminal: figures with intervals, groups, baselines and published rows."""

from collections.abc import Sequence

from rich.table import Table

from sightline.evaluation.statistics import Interval
from sightline.evaluation.summary import Summary
from sightline.evaluation.task import OVERALL, Metric


def table(summary: Summary, label: str) -> Table:
    """Metrics downwards; across: the model, the constant answers, and what papers report."""
    task = summary.task
    shown = Table(
        title=f"{task.title}: {summary.counts[OVERALL]:,} items", title_justify="left", box=None, pad_edge=False
    )
    shown.add_column("")
    for heading in (label, *summary.baselines, *(f"{row.label} (published)" for row in task.published)):
        shown.add_column(heading, justify="right")
    for metric in task.metrics:
        if metric.name in summary.figures[OVERALL]:
            cells = [_cell(summary.overall(metric.name))]
            cells += [_value(figures[OVERALL].get(metric.name)) for figures in summary.baselines.values()]
            cells += [f"{row.scores[metric.name]:.1f}" if metric.name in row.scores else "" for row in task.published]
            shown.add_row(metric.label, *cells)
    return shown


def group_table(summary: Summary, metrics: Sequence[Metric]) -> Table | None:
    """Groups downwards, the first metrics across; None where there are no groups."""
    groups = [group for group in summary.figures if group != OVERALL]
    if not groups:
        return None
    shown = Table(box=None, pad_edge=False)
    shown.add_column("")
    shown.add_column("items", justify="right")
    for metric in metrics:
        shown.add_column(metric.label, justify="right")
    for group in groups:
        cells = [_cell(summary.figures[group].get(metric.name)) for metric in metrics]
        shown.add_row(group, f"{summary.counts[group]:,}", *cells)
    return shown


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.value:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


def _value(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.value:.1f}"
