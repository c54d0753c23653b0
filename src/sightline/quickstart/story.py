"""What the journey found, as metrics.json and as the report: figures, answers, and the run that went wrong."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from sightline.evaluation.comparison import compare
from sightline.evaluation.record import Record
from sightline.evaluation.summary import Summary, summarise
from sightline.evaluation.task import OVERALL, Item, Task
from sightline.files import METRICS, RECIPE
from sightline.report.contents import Answer, Change, Column, Comparison, Contrast, ModelRow, Report, Sample
from sightline.report.curves import CHARTS, curves_of, draw_contrast, read_metrics
from sightline.scoring.interval import Interval
from sightline.training.checkpoint.finish import versions

LABELS = {"base": "base", "dpo": "DPO", "control": "SFT on chosen", "too_eager": "DPO, too eager"}
SHOWN = ("chair", "cover", "hal", "cog", "accuracy", "f1")
"""The scores of metrics.json, in percent with 95% intervals."""

HEADLINES: tuple[tuple[str, str, Literal["higher", "lower"]], ...] = (
    ("hal", "Descriptions with a hallucination", "lower"),
    ("cover", "Objects covered", "higher"),
    ("accuracy", "Yes/no accuracy", "higher"),
)
"""The large figures on top: score, label, direction."""

NUM_SAMPLES = 12
ENLARGED = 4
"""Images of 64 pixels are shown this many times larger."""


@dataclass(frozen=True)
class Story:
    """What the report is made of. records: answers by model; runs: folders of the trained ones; timings in seconds."""

    task: Task
    records: dict[str, list[Record]]
    runs: dict[str, Path]
    timings: dict[str, float]


def metrics(story: Story) -> dict[str, dict[str, dict[str, float]]]:
    """One object a model with the shown scores, each {value, low, high} in percent."""
    return {
        name: {score: summary.overall(score)._asdict() for score in SHOWN} for name, summary in summaries(story).items()
    }


def summaries(story: Story) -> dict[str, Summary]:
    """Figures of every model."""
    return {name: summarise(story.task, records) for name, records in story.records.items()}


def report(story: Story) -> Report:
    """The page."""
    found = summaries(story)
    changes = []
    for score, label, better in HEADLINES:
        before, after = found["base"].overall(score), found["dpo"].overall(score)
        changes.append(Change(label=label, before=before, after=after, better=better))
    rows = [row(LABELS[name], found[name]) for name in ("base", "dpo", "control")]
    rows += [baseline(label, figures[OVERALL]) for label, figures in found["base"].baselines.items()]
    return Report(
        title="Sightline quickstart",
        headline=(
            "A small vision-language model learned from demonstrations that name things which are not there. "
            "Preference pairs made of its own mistakes fix that in seconds; all scores are on images that nobody "
            "trained on."
        ),
        changes=tuple(changes),
        columns=columns(story.task),
        rows=tuple(rows),
        table_note=(
            "Intervals are Wilson's for rates, a bootstrap over images for ratios. SFT on the chosen "
            "answers of the same pairs is the control: the pairs carry the signal; that DPO beats SFT is not shown."
        ),
        comparisons=tuple(paired(story, "base", name) for name in ("dpo", "control")),
        samples=tuple(samples(story, ("base", "dpo", "control"), NUM_SAMPLES)),
        curves=tuple(curves_of(read_metrics(story.runs["dpo"] / METRICS))),
        contrast=contrast(story, found),
        recipe=(story.runs["dpo"] / RECIPE).read_text(encoding="utf-8"),
        timings=story.timings,
        versions=versions(),
        notes=story.task.notes,
    )


def columns(task: Task) -> tuple[Column, ...]:
    """The shown scores as columns of the table."""
    by_name = {metric.name: metric for metric in task.metrics}
    return tuple(
        Column(
            key=name,
            label=by_name[name].label,
            better="lower" if by_name[name].better == "lower" else "higher",
            explanation=by_name[name].explanation,
        )
        for name in SHOWN
    )


def row(label: str, summary: Summary) -> ModelRow:
    """A model's row."""
    return ModelRow(label=label, scores={name: summary.overall(name) for name in SHOWN})


def baseline(label: str, figures: dict[str, Interval]) -> ModelRow:
    """A constant answer's row: only the yes/no scores mean anything."""
    return ModelRow(
        label=label, scores={name: figures[name] for name in ("accuracy", "f1") if name in figures}, kind="baseline"
    )


def paired(story: Story, a: str, b: str) -> Comparison:
    """McNemar's test of two models on the same yes/no questions."""
    test = compare(story.task, story.records[a], story.records[b])
    return Comparison(a=LABELS[a], b=LABELS[b], on="yes/no questions", test=test.mcnemar, smallest=test.smallest)


def samples(story: Story, models: Sequence[str], number: int, worst: str = "base") -> list[Sample]:
    """Images that one model was wrong about, descriptions and questions in turn, with everybody's answers."""
    answers = {name: {r.id: r.answer for r in story.records[name]} for name in models}
    wrong = [item for item in story.task.items if story.task.marks(item, answers[worst][item.id])]
    described = [item for item in wrong if item.truth["kind"] == "description"]
    asked = [item for item in wrong if item.truth["kind"] != "description"]
    turns = [item for pair in zip(described, asked, strict=False) for item in pair]
    return [sample(story.task, item, {name: answers[name][item.id] for name in models}) for item in turns[:number]]


def sample(task: Task, item: Item, answers: dict[str, str]) -> Sample:
    """One image with the answers side by side, hallucinated words marked, left-out objects named."""
    return Sample(
        image=enlarged(item.images[0].open()),
        question=item.question,
        truth=item.truth["answer"],
        answers=tuple(
            Answer(
                model=LABELS[name],
                text=text,
                hallucinated=task.marks(item, text),
                omitted=tuple(thing for thing in item.truth.get("objects", ()) if thing not in text.lower()),
            )
            for name, text in answers.items()
        ),
    )


def enlarged(image: Image.Image) -> bytes:
    """A small image as a larger PNG, its pixels kept square."""
    size = (image.width * ENLARGED, image.height * ENLARGED)
    written = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(written, format="PNG")
    return written.getvalue()


def contrast(story: Story, found: dict[str, Summary]) -> Contrast:
    """The too eager run next to the good one: its reward accuracy looks perfect while its answers fall apart."""
    runs = {LABELS[name]: read_metrics(story.runs[name] / METRICS) for name in ("dpo", "too_eager")}
    charts = {chart.name: chart for chart in CHARTS}
    drawn = [draw_contrast(charts[name], runs) for name in ("reward_accuracy", "reward_margins", "logps")]
    last = runs[LABELS["too_eager"]]["rewards/accuracies"].values[-10:]
    eager = found["too_eager"]
    return Contrast(
        title="A run to beware of",
        text=(
            f"The same pairs, plain DPO, too high a learning rate: reward accuracy over the last ten steps reads "
            f"{sum(last) / len(last):.2f} and margins keep growing, so the training curves look better than the good "
            f"run's. The answers tell otherwise: Cover falls to {eager.overall('cover').value:.1f}%, yes/no accuracy "
            f"is {eager.overall('accuracy').value:.1f}%.",
            "Reward accuracy only says that chosen answers are ahead of rejected ones. Both can fall together, and "
            "with them everything that neither names. Score answers while you train, not only rewards.",
        ),
        columns=columns(story.task),
        rows=tuple(row(LABELS[name], found[name]) for name in ("dpo", "too_eager")),
        curves=tuple(curve for curve in drawn if curve is not None),
        samples=tuple(samples(story, ("dpo", "too_eager"), 4, worst="too_eager")),
    )
