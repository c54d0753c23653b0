"""The benchmarks by name, each built from a folder (or file) of its own data."""

import difflib
from collections.abc import Callable
from pathlib import Path

from sightline.errors import RecipeError
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.amber import discriminative, generative
from sightline.evaluation.tasks.captions import chair_task
from sightline.evaluation.tasks.pope import SETTINGS, pope
from sightline.evaluation.tasks.short_answers import anls_task, chartqa, choice, mathvista, vqa

Builder = Callable[[Path], list[Task]]

BENCHMARKS: dict[str, Builder] = {
    "amber": lambda folder: [discriminative(folder), generative(folder)],
    "amber-discriminative": lambda folder: [discriminative(folder)],
    "amber-generative": lambda folder: [generative(folder)],
    "pope": lambda folder: [pope(folder, setting) for setting in SETTINGS],
    "pope-random": lambda folder: [pope(folder, "random")],
    "pope-popular": lambda folder: [pope(folder, "popular")],
    "pope-adversarial": lambda folder: [pope(folder, "adversarial")],
    "chair": lambda folder: [chair_task(folder)],
    "vqa": lambda data: [vqa(data)],
    "anls": lambda data: [anls_task(data)],
    "chartqa": lambda data: [chartqa(data)],
    "choice": lambda data: [choice(data)],
    "mathvista": lambda data: [mathvista(data)],
}
"""Name on the command line → its tasks. `amber` and `pope` stand for all of theirs."""


def build(name: str, data: Path | None) -> list[Task]:
    """The tasks of this name from the folder `data`, or from its subfolder of that name where there is one.

    Raises `RecipeError` for an unknown name (with the nearest one) or without data, `DataError` for missing files.
    """
    if name not in BENCHMARKS:
        close = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known: scenes, {', '.join(BENCHMARKS)}."
        raise RecipeError(f"There is no task {name!r}. {hint}")
    if data is None:
        raise RecipeError(f"Task {name} needs `--data`, the folder that holds its files.")
    own = data / name.partition("-")[0]
    return BENCHMARKS[name](own if own.is_dir() else data)
