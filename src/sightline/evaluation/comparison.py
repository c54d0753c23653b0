"""Two models on the same items: which differences are more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import DataError
from sightline.evaluation.record import Record
from sightline.evaluation.statistics import (
    Difference,
    McNemar,
    design_effect,
    mcnemar,
    paired_difference,
    smallest_detectable_difference,
)
from sightline.evaluation.task import Metric, Task
from sightline.scoring.ratio import EMPTY, Ratio


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """b against a on the items that both answered.

    differences: b minus a by metric, in points of percent (or the metric's own unit). judged: how many of the items
    `Task.correct` concerns; mcnemar: on right and wrong answers to those, over images. smallest: the smallest
    difference in the share of right answers, in points, that so many items would show four times in five. only_one:
    items that just one of the two answered; they are left out.
    """

    items: int
    judged: int
    only_one: int
    differences: dict[str, Difference]
    mcnemar: McNemar
    smallest: float

    def as_json(self) -> dict[str, Any]:
        """Plain dicts."""
        return {
            "items": self.items,
            "judged": self.judged,
            "only_one": self.only_one,
            "differences": {name: d._asdict() for name, d in self.differences.items()},
            "mcnemar": self.mcnemar._asdict(),
            "smallest_detectable_difference": self.smallest,
        }


def compare(task: Task, a: Sequence[Record], b: Sequence[Record]) -> PairedTest:
    """Compare b with a, item by item. Raises `DataError` when no item was answered by both."""
    asked = {item.id for item in task.items}
    of_a, of_b = ({r.id: r for r in side if r.id in asked} for side in (a, b))
    common = [identity for identity in of_a if identity in of_b]
    if not common:
        raise DataError(
            f"The two models answered no item of task {task.name} in common ({len(a)} and {len(b)} answers). Compare "
            "answers to the same items: evaluate both with the same task, data and limit."
        )
    pairs = [(of_a[identity], of_b[identity]) for identity in common]
    differences = {m.name: difference(m, pairs) for m in task.metrics if any(_concerned(m, p) for p in pairs)}
    judged = [(a, b) for a, b in pairs if task.correct in a.scores and task.correct in b.scores]
    right_a, right_b = ([task.is_right(r.scores) for r in side] for side in _columns(judged))
    images = [a.image_id for a, _ in judged]
    test = mcnemar(right_a, right_b, images) if judged else McNemar(0, 0, 1.0)
    effect = design_effect(right_a, right_b, images) if judged else 1.0
    smallest = smallest_detectable_difference(len(judged), test.only_a + test.only_b, effect)
    return PairedTest(
        items=len(common),
        judged=len(judged),
        only_one=len(of_a.keys() ^ of_b.keys()),
        differences=differences,
        mcnemar=test,
        smallest=100 * smallest,
    )


def difference(metric: Metric, pairs: Sequence[tuple[Record, Record]]) -> Difference:
    """b minus a, whole images drawn (`paired_difference`); in percent points where the metric is one of percent."""
    of_a, of_b = ([_ratio(r, metric) for r in side] for side in _columns(pairs))
    found = paired_difference(
        [q.numerator for q in of_a],
        [q.denominator for q in of_a],
        [q.numerator for q in of_b],
        [q.denominator for q in of_b],
        [a.image_id for a, _ in pairs],
        is_share=metric.unit == "percent",
    )
    scale = 100 if metric.unit == "percent" else 1
    return Difference(scale * found.value, scale * found.low, scale * found.high, found.p_value)


def _columns(pairs: Sequence[tuple[Record, Record]]) -> tuple[list[Record], list[Record]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def _concerned(metric: Metric, pair: tuple[Record, Record]) -> bool:
    return any(_ratio(r, metric).denominator for r in pair)


def _ratio(r: Record, metric: Metric) -> Ratio:
    return r.scores.get(metric.name, EMPTY)
