"""Training curves from a run's metrics.jsonl: one PNG a quantity, train and held-out, raw and smoothed.

`metrics.jsonl` holds one object a line with `step` and metrics by TRL's names; held-out twins begin with `eval_`; lines
without a step are events. A quantity that was never logged has no image. Left out: anything interactive; trackers do
that better.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sightline.errors import DataError


class Series(NamedTuple):
    """One metric over the run: optimizer steps and finite values, of equal length."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Chart:
    """What one image shows. lines: (metric, label) pairs. reference: a value worth a dotted line, such as chance.
    limits: fixed ends of the axis. smoothed: draw a moving average over the raw values."""

    name: str
    title: str
    lines: tuple[tuple[str, str], ...]
    reference: float | None = None
    limits: tuple[float, float] | None = None
    smoothed: bool = True


class Line(NamedTuple):
    """One quantity in a chart, and its held-out twin where there is one. place: of its colour; its own if left out."""

    label: str
    train: Series
    held_out: Series | None
    place: int | None = None


class Curve(NamedTuple):
    """A drawn chart: PNG bytes on a light and on a dark page."""

    name: str
    title: str
    light: bytes
    dark: bytes


class Theme(NamedTuple):
    """Colours of one page."""

    page: str
    ink: str
    grid: str
    lines: tuple[str, ...]


LIGHT = Theme("#ffffff", "#3d4451", "#e6e8ec", ("#2563eb", "#d9480f", "#0f9d74", "#8b3fd1", "#b7791f"))
DARK = Theme("#171a21", "#b6bdc9", "#2a2f3a", ("#7aa7ff", "#ff9a66", "#4fd1a5", "#c792ea", "#e6b450"))

STYLES = ("-", "-.", ":")
"""Of lines once the colours are used up."""

CHARTS = (
    Chart("loss", "Loss", (("loss", "train"),)),
    Chart("reward_accuracy", "Reward accuracy", (("rewards/accuracies", "train"),), 0.5, (-0.03, 1.03)),
    Chart("reward_margins", "Reward margin, chosen minus rejected", (("rewards/margins", "train"),), 0.0),
    Chart("rewards", "Rewards", (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), 0.0),
    Chart("logps", "Log-probs of whole responses, nats", (("logps/chosen", "chosen"), ("logps/rejected", "rejected"))),
    Chart("logits", "Mean logits", (("logits/chosen", "chosen"), ("logits/rejected", "rejected"))),
    Chart("entropy", "Entropy of the next token, nats", (("entropy", "train"),)),
    Chart("token_accuracy", "Token accuracy", (("mean_token_accuracy", "train"),), None, (-0.03, 1.03)),
    Chart("reward", "Reward", (("reward", "train"),)),
    Chart(
        "reward_spread",
        "Prompts whose answers all have the same reward",
        (("frac_reward_zero_std", "train"),),
        None,
        (-0.03, 1.03),
    ),
    Chart("clip_ratio", "Tokens outside the clip range", (("clip_ratio/region_mean", "train"),), None, (-0.03, 1.03)),
    Chart("sampler", "Distance of the sampler, nats", (("sampling/sampling_logp_difference/mean", "mean"),)),
    Chart("completion_length", "Length of sampled answers, tokens", (("completions/mean_length", "train"),)),
    Chart("kl", "KL divergence from the reference, nats", (("kl", "train"),)),
    Chart("seconds", "Seconds of a step", tuple((f"seconds/{n}", n) for n in ("generate", "reward", "update", "wait"))),
    Chart("grad_norm", "Gradient norm", (("grad_norm", "train"),)),
    Chart("learning_rate", "Learning rate", (("learning_rate", "train"),), smoothed=False),
)

SCORES = {"accuracy": "accuracy", "f1": "F1", "chair": "CHAIR", "cover": "Cover", "hal": "Hal"}
"""Scores of answers that are drawn where a run asked tasks while training, and their labels."""


def read_metrics(path: Path) -> dict[str, Series]:
    """Every number of a metrics.jsonl by name, in order of steps; NaN and infinities are left out of the curve.

    Raises `DataError` naming the line that is not a JSON object.
    """
    metrics: dict[str, Series] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"Line {number} of {path} is not a JSON object ({error}). Every line of metrics.jsonl is one: delete "
                "that line, or resume the run, which does so."
            ) from error
        for name, value in row.items():
            if "step" in row and name != "step" and _is_finite(value):
                series = metrics.setdefault(name, Series([], []))
                series.steps.append(row["step"])
                series.values.append(float(value))
    return metrics


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Centred moving average over `window` values; nearer to an end over as many as there are on both sides.

    Being centred it does not lag behind the curve, as the usual exponential average does.
    """
    sums = [0.0, *accumulate(values)]
    last = len(values) - 1
    reach = [min(window // 2, i, last - i) for i in range(len(values))]
    return [(sums[i + r + 1] - sums[i - r]) / (2 * r + 1) for i, r in enumerate(reach)]


def draw_curves(metrics: Path, folder: Path) -> list[Curve]:
    """Draw a metrics.jsonl into `folder`/*.png and return what was drawn."""
    curves = curves_of(read_metrics(metrics))
    folder.mkdir(parents=True, exist_ok=True)
    for curve in curves:
        (folder / f"{curve.name}.png").write_bytes(curve.light)
    return curves


def curves_of(metrics: Mapping[str, Series]) -> list[Curve]:
    """One curve a quantity of `CHARTS` that was logged, and one a part of a composite loss (`loss/<part>`)."""
    parts = sorted(name for name in metrics if name.startswith("loss/"))
    charts = list(CHARTS)
    if parts:
        charts.insert(1, Chart("loss_parts", "Parts of the loss", tuple((p, p.removeprefix("loss/")) for p in parts)))
    charts[1:1] = _score_charts(metrics)
    drawn = []
    for chart in charts:
        lines = [
            Line(label, metrics[name], metrics.get(f"eval_{name}")) for name, label in chart.lines if name in metrics
        ]
        if lines:
            drawn.append(draw(chart, lines))
    return drawn


def _score_charts(metrics: Mapping[str, Series]) -> list[Chart]:
    """A chart a task that was scored while training: its `<task>/<score>` in percent."""
    tasks = dict.fromkeys(task for task, _, score in (name.partition("/") for name in metrics) if score in SCORES)
    return [
        Chart(
            f"scores_{task}",
            f"Scores of {task}, percent",
            tuple((f"{task}/{score}", label) for score, label in SCORES.items()),
            smoothed=False,
        )
        for task in tasks
    ]


def draw_contrast(chart: Chart, runs: Mapping[str, Mapping[str, Series]]) -> Curve | None:
    """The first metric of `chart` in several runs, one line each; None where no run logged it.

    A run has the same colour in every chart, also where others are missing.
    """
    name = chart.lines[0][0]
    lines = [
        Line(label, metrics[name], None, place)
        for place, (label, metrics) in enumerate(runs.items())
        if name in metrics
    ]
    return draw(chart, lines) if lines else None


def draw(chart: Chart, lines: Sequence[Line]) -> Curve:
    """A chart in both themes."""
    light, dark = (_png(chart, lines, theme) for theme in (LIGHT, DARK))
    return Curve(chart.name, chart.title, light, dark)


def _png(chart: Chart, lines: Sequence[Line], theme: Theme) -> bytes:
    figure = Figure(figsize=(5.6, 3.2), dpi=160, facecolor=theme.page)
    axes = figure.subplots()
    for own_place, (label, train, held_out, place) in enumerate(lines):
        turn, colour_place = divmod(own_place if place is None else place, len(theme.lines))
        colour = theme.lines[colour_place]
        _draw_line(axes, colour, STYLES[turn % len(STYLES)], label, train, smoothed=chart.smoothed)
        if held_out is not None:
            held_label = "held-out" if label == "train" else f"{label}, held-out"
            marks = {"marker": "o", "markersize": 4.5, "markerfacecolor": theme.page, "markeredgewidth": 1.4}
            axes.plot(*held_out, color=colour, linestyle="--", linewidth=1.3, label=held_label, **marks)
    if chart.reference is not None:
        axes.axhline(chart.reference, color=theme.ink, linewidth=0.8, linestyle=":", alpha=0.7)
    if chart.limits is not None:
        axes.set_ylim(*chart.limits)
    _dress(
        axes,
        chart.title,
        theme,
        legend=len(lines) > 1 or any(line.held_out is not None or line.place is not None for line in lines),
    )
    figure.tight_layout(pad=0.8)
    buffer = BytesIO()
    # the same numbers give the same bytes: no date, no version
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_line(axes: Axes, colour: str, style: str, label: str, train: Series, *, smoothed: bool) -> None:
    """The raw values thin and the smoothed ones on top; the raw ones alone while there are few."""
    few = len(train.values) < 12
    if few or not smoothed:
        axes.plot(*train, style, color=colour, linewidth=1.7, marker="o" if few else "", markersize=3, label=label)
        return
    axes.plot(*train, color=colour, linewidth=0.8, alpha=0.28)
    window = max(5, len(train.values) // 12)
    axes.plot(train.steps, smooth(train.values, window), style, color=colour, linewidth=1.9, label=label)


def _dress(axes: Axes, title: str, theme: Theme, *, legend: bool) -> None:
    """Title, grid and type in the theme's colours."""
    axes.set_facecolor(theme.page)
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=theme.ink, pad=8)
    axes.set_xlabel("optimizer step", fontsize=8.5, color=theme.ink)
    axes.tick_params(colors=theme.ink, labelsize=8.5, length=0)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    if legend:
        axes.legend(fontsize=8, frameon=False, labelcolor=theme.ink)
