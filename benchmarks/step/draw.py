"""The plots."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.step.plan import TITLES

COLOURS = {"sightline": "#1f6f8b", "compact": "#c98f5b", "trl": "#a9a9a9"}
LABELS = {"sightline": "Sightline", "compact": "TRL, responses only in the head", "trl": "TRL 1.16"}
DRAWN = ("trl", "compact", "sightline")


def step_plot(figures: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory of a step, a bar a program, by setting."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    for axis, name, what in zip(axes, ("step_s", "memory_mb"), ("seconds a step", "MB above the model"), strict=True):
        for i, program in enumerate(DRAWN):
            values = [one["programs"][program][name] for one in figures]
            places = [j + (i - 1) * 0.27 for j in range(len(figures))]
            bars = axis.bar(places, values, 0.25, color=COLOURS[program], label=LABELS[program])
            axis.bar_label(bars, fmt="{:.3g}" if name == "step_s" else "{:.0f}", fontsize=8)
        axis.set_xticks(range(len(figures)), [TITLES[one["setting"]] for one in figures])
        axis.set_ylabel(what)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(DRAWN), frameon=False)
    pairs, threads = figures[0]["pairs"], figures[0]["threads"]
    figure.suptitle(f"A whole optimizer step: medians of {pairs} runs, {threads} threads", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def growth_plot(points: list[dict[str, Any]], path: Path) -> None:
    """CPU seconds of an update over K and over P."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    titles = {"K": "responses a prompt, K (P = 512, C = 64)", "P": "prompt tokens, P (K = 4, C = 64)"}
    for axis, name in zip(axes, ("K", "P"), strict=True):
        for program in DRAWN:
            line = [(one["value"], one["cpu_s"]) for one in points if (one["program"], one["axis"]) == (program, name)]
            axis.plot(*zip(*line, strict=True), "o-", color=COLOURS[program], label=LABELS[program])
        axis.set_xlabel(titles[name])
        axis.set_ylabel("CPU seconds an update")
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
