"""What a report says, before it is a page: plain frozen dataclasses. Percentages are percent, as in metrics.json."""

from dataclasses import dataclass, field
from typing import Literal

from sightline.evaluation.statistics import McNemar
from sightline.evaluation.win_rate import WinRate
from sightline.report.curves import Curve
from sightline.scoring.interval import Interval


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table. key: name of the score in every row. explanation: a few words for readers new to it."""

    key: str
    label: str
    better: Literal["higher", "lower", "neither"]
    explanation: str = ""
    unit: Literal["percent", "number"] = "percent"


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model, or a baseline such as always answering no. scores: percent, without those that mean nothing here."""

    label: str
    scores: dict[str, Interval]
    note: str = ""
    kind: Literal["model", "baseline", "published"] = "model"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same questions. smallest: the smallest difference, in points, that this set could show."""

    a: str
    b: str
    on: str
    test: McNemar
    smallest: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Which of two models' answers a judge prefers. found: of b against a, in percent."""

    a: str
    b: str
    judge: str
    found: WinRate


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said of an image. hallucinated: words or phrases of it to mark. omitted: what it leaves out."""

    model: str
    text: str
    hallucinated: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with the answers side by side. image: PNG or JPEG bytes. truth: what is really there."""

    image: bytes | None
    question: str
    truth: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A run that went wrong, next to the good one. text: paragraphs. curves: both runs in one chart."""

    title: str
    text: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[ModelRow, ...]
    curves: tuple[Curve, ...] = ()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Round:
    """Answers sampled in training at one step; each answer's `model` is its reward."""

    step: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A large figure at the top: a score before and after, in percent."""

    label: str
    before: Interval
    after: Interval
    better: Literal["higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page, in the order in which it appears there; an empty part is left out of the page.

    timings: seconds by step of the journey. versions: package → version.
    """

    title: str
    headline: str
    changes: tuple[Change, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[ModelRow, ...] = ()
    table_note: str = ""
    comparisons: tuple[Comparison, ...] = ()
    samples: tuple[Sample, ...] = ()
    rounds: tuple[Round, ...] = ()
    curves: tuple[Curve, ...] = ()
    contrast: Contrast | None = None
    recipe: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
