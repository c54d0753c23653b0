"""The benchmarks by name, each built from a folder (or file) of its own data."""

from collections.abc import Callable
from pathlib import Path

from sightline.errors import RecipeError, did_you_mean
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.amber import discriminative, generative
from sightline.evaluation.tasks.captions import chair_task
from sightline.evaluation.tasks.mathvista import mathvista
from sightline.evaluation.tasks.mmhal import mmhal
from sightline.evaluation.tasks.options import TaskOptions
from sightline.evaluation.tasks.pope import SETTINGS, pope
from sightline.evaluation.tasks.short_answers import anls_task, chartqa, choice, vqa
from sightline.evaluation.tasks.similarity import spacy_similar
from sightline.scoring.amber import Similar

NO_OPTIONS = TaskOptions()
Builder = Callable[[Path, TaskOptions], list[Task]]

BENCHMARKS: dict[str, Builder] = {
    "amber": lambda folder, options: [discriminative(folder), generative(folder, _similar(options))],
    "amber-discriminative": lambda folder, options: [discriminative(folder)],
    "amber-generative": lambda folder, options: [generative(folder, _similar(options))],
    "pope": lambda folder, options: [pope(folder, setting) for setting in SETTINGS],
    "pope-random": lambda folder, options: [pope(folder, "random")],
    "pope-popular": lambda folder, options: [pope(folder, "popular")],
    "pope-adversarial": lambda folder, options: [pope(folder, "adversarial")],
    "chair": lambda folder, options: [chair_task(folder, options.synonyms)],
    "vqa": lambda data, options: [vqa(data)],
    "anls": lambda data, options: [anls_task(data)],
    "chartqa": lambda data, options: [chartqa(data)],
    "choice": lambda data, options: [choice(data)],
    "mmhal": lambda folder, options: [mmhal(folder, options.judge)],
    "mathvista": lambda data, options: [mathvista(data, options.judge)],
}
"""Name on the command line → its tasks. `amber` and `pope` stand for all of theirs."""


def _similar(options: TaskOptions) -> Similar | None:
    return spacy_similar() if options.spacy else None


def build(name: str, data: Path | None, options: TaskOptions = NO_OPTIONS) -> list[Task]:
    """The tasks of this name from the folder `data`, or from its subfolder of that name where there is one.

    Raises `RecipeError` for an unknown name (with the nearest one) or without data, `DataError` for missing files.
    """
    if name not in BENCHMARKS:
        hint = did_you_mean(name, BENCHMARKS, f"Known: scenes, {', '.join(BENCHMARKS)}.", written="{}")
        raise RecipeError(f"There is no task {name!r}. {hint}")
    if data is None:
        raise RecipeError(f"Task {name} needs `--data`, the folder that holds its files.")
    own = data / name.partition("-")[0]
    return BENCHMARKS[name](own if own.is_dir() else data, options)
