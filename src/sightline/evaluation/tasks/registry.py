"""Tasks by name: scenes, the benchmarks (each from a folder or file of its own data), and the user's own by file."""

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from sightline.config.custom import names_user_code
from sightline.errors import RecipeError, did_you_mean
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.amber import discriminative, generative, spacy_similar
from sightline.evaluation.tasks.captions import chair_task
from sightline.evaluation.tasks.free import questions
from sightline.evaluation.tasks.mathvista import mathvista
from sightline.evaluation.tasks.mmhal import mmhal
from sightline.evaluation.tasks.options import TaskOptions
from sightline.evaluation.tasks.pope import SETTINGS, pope
from sightline.evaluation.tasks.scenes import scenes_tasks
from sightline.evaluation.tasks.short_answers import anls_task, chartqa, choice, vqa
from sightline.scoring.amber import Similar
from sightline.user_code import find_user_object

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
    "questions": lambda data, options: [questions(data)],
}
"""Name on the command line → its tasks. `amber` and `pope` stand for all of theirs."""


def _similar(options: TaskOptions) -> Similar | None:
    return spacy_similar() if options.spacy else None


def named_tasks(name: str, data: Path | None, *, seed: int = 0, options: TaskOptions = NO_OPTIONS) -> list[Task]:
    """The tasks of this name: `scenes`, a benchmark from the folder `data`, or `file.py:NAME` of the user's own.

    Raises `RecipeError` for an unknown name or one that leads to no task, `DataError` for missing files.
    """
    if names_user_code(name):
        return own_tasks(name, data)
    return scenes_tasks(seed=seed) if name == "scenes" else build(name, data, options)


def own_tasks(name: str, data: Path | None) -> list[Task]:
    """What `file.py:NAME` is: a `Task`, several, or a function that makes them, with `data` where it takes it.

    Raises `RecipeError`.
    """
    found = find_user_object(name, what="Task")
    if callable(found) and not isinstance(found, Task):
        parameters = inspect.signature(found).parameters
        needed = [n for n, parameter in parameters.items() if parameter.default is parameter.empty and n != "data"]
        if needed:
            raise RecipeError(
                f"Task `{name}` is a function that needs `{needed[0]}`. A function that makes tasks takes `data` (the "
                "path of `--data`) or nothing."
            )
        takes_data = "data" in parameters
        if takes_data and data is None:
            raise RecipeError(f"Task `{name}` needs `--data`, the folder or file that it reads.")
        found = found(data=data) if takes_data else found()
    tasks = [found] if isinstance(found, Task) else found
    if not isinstance(tasks, list | tuple) or not tasks or not all(isinstance(task, Task) for task in tasks):
        raise RecipeError(
            f"Task `{name}` is a {type(found).__name__}; expected is a `sightline.Task`, a list of them, or a function "
            "that returns one."
        )
    for task in tasks:
        repeated = [item_id for item_id, times in Counter(item.id for item in task.items).items() if times > 1]
        if repeated or not task.items:
            what = f"several items with the id {repeated[0]!r}" if repeated else "no items"
            raise RecipeError(f"Task `{name}` ({task.name}) has {what}. Every item needs an id of its own.")
    return list(tasks)


def build(name: str, data: Path | None, options: TaskOptions = NO_OPTIONS) -> list[Task]:
    """The tasks of this name from the folder `data`, or from its subfolder of that name where there is one.

    Raises `RecipeError` for an unknown name (with the nearest one) or without data, `DataError` for missing files.
    """
    if name not in BENCHMARKS:
        hint = did_you_mean(
            name,
            BENCHMARKS,
            f"Known: scenes, {', '.join(BENCHMARKS)}; one of your own is `file.py:NAME`.",
            written="{}",
        )
        raise RecipeError(f"There is no task {name!r}. {hint}")
    if data is None:
        raise RecipeError(f"Task {name} needs `--data`, the folder that holds its files.")
    own = data / name.partition("-")[0]
    return BENCHMARKS[name](own if own.is_dir() else data, options)
