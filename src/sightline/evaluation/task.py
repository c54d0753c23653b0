"""A task: items, how to ask them, and how to score an answer.

A scorer sees one item and one answer and returns ratios (`scoring.ratio`); intervals, groups and comparisons of models
follow from them and are the same for every task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.errors import DataError
from sightline.scoring.ratio import EMPTY, Ratios
from sightline.types import AnyImage, Example

OVERALL = "all"
"""The group that every item belongs to."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score as it is shown. unit: percent, or a plain number such as words an answer."""

    name: str
    label: str
    better: Literal["higher", "lower", "neither"]
    unit: Literal["percent", "number"] = "percent"
    explanation: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question about one image (or several, or none).

    id: unique in its task and stable, answers are found again by it. image_id: the same for all questions on one
    image; intervals draw whole images. groups: what else to report it under, such as `existence`. truth: whatever
    the task's scorer needs, JSON only.
    """

    id: str
    question: str
    truth: Any
    image_id: str
    images: tuple[AnyImage, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row from somebody's paper, in percent by metric; shown as published, never recomputed."""

    label: str
    scores: dict[str, float]


Scorer = Callable[[Item, str], Ratios]
"""(item, answer) → the answer's part in every score."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Items, prompt and scorer.

    metrics: in the order of the table, the first being the one to sort models by. correct: the name of the rate by
    which an answer is right or wrong (`is_right`), for McNemar's test and filters; `otherwise` where it has no part;
    empty where no answer is right or wrong. prompt: what the model is asked, `{question}` standing for the item's
    question. marks: words of an answer to mark as hallucinated. truth_text: the truth for readers. baselines: constant
    answers to score next to the model, by label. published: rows from papers. at_once: answers scored at a time, where
    a judge is asked. official: figures as the
    benchmark's own script rounds them, from (item, answer) pairs.
    """

    name: str
    title: str
    items: Sequence[Item]
    scorer: Scorer
    metrics: tuple[Metric, ...]
    correct: str
    otherwise: tuple[str, ...] = ("hal",)
    max_new_tokens: int
    prompt: str = "{question}"
    marks: Callable[[Item, str], tuple[str, ...]] = lambda item, answer: ()
    truth_text: Callable[[Item], str] = lambda item: str(item.truth)
    baselines: dict[str, str] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    at_once: int = 1
    official: Callable[[Sequence[tuple[Item, str]]], dict[str, dict[str, float]]] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `DataError` where two items share an id: one answer would stand for both."""
        by_id: dict[str, Item] = {}
        for item in self.items:
            other = by_id.setdefault(item.id, item)
            if other is not item:
                raise DataError(
                    f"Task {self.name}: two questions have the id {item.id!r}: {other.question[:80]!r} and "
                    f"{item.question[:80]!r}. Answers are found again by it; give every question an id of its own."
                )

    def asked(self, item: Item) -> str:
        """The text that the model gets."""
        return self.prompt.replace("{question}", item.question)

    def is_right(self, scores: Ratios) -> bool:
        """Whether an answer counts as right: at least half of 1 in the rate `correct` (some count by degrees, as VQA's
        accuracy does), or 0 of 1 where lower is better (`hal`).

        An answer that `correct` does not concern is judged by the first of the rates `otherwise` that does.
        """
        judging = next((n for n in (self.correct, *self.otherwise) if scores.get(n, EMPTY).denominator), None)
        if judging is None:
            return False
        lower_is_better = any(m.name == judging and m.better == "lower" for m in self.metrics)
        reached = scores[judging].numerator >= scores[judging].denominator / 2
        return reached != lower_is_better

    def example(self, item: Item, row: int) -> Example:
        """The item as an example without responses: its images, then the text."""
        content = [*({"type": "image"} for _ in item.images), {"type": "text", "text": self.asked(item)}]
        return Example(
            id=f"{self.name}:{item.id}",
            source=self.name,
            row_number=row,
            prompt=({"role": "user", "content": content},),
            images=item.images,
        )
