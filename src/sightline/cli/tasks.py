"""From `--task amber,pope` to tasks."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.cli.arguments import Arguments, positive, seed
from sightline.errors import RecipeError
from sightline.evaluation.tasks.options import TaskOptions
from sightline.scoring.judge import Judge

if TYPE_CHECKING:
    from sightline.evaluation.task import Task


def add_task_flags(arguments: Arguments) -> None:
    """Flags that say what is asked."""
    arguments.add_argument("--task", default="scenes", help="one or more, joined by commas [scenes]")
    arguments.add_argument("--data", type=Path, help="folder of the benchmark's own files, images in its image/")
    arguments.add_argument("--limit", type=positive, help="only the first so many items of each task")
    arguments.add_argument("--prompt", help="how to ask, {question} standing for the question")
    arguments.add_argument("--judge", metavar="URL", help="an OpenAI-compatible server, up to /v1: grades, win rates")
    arguments.add_argument("--judge-model", metavar="NAME", help="the judge's name there")
    arguments.add_argument("--spacy", action="store_true", help="AMBER's descriptions by spaCy's similarity")
    arguments.add_argument("--synonyms", type=Path, help="names of CHAIR's objects [synonyms.txt in --data]")
    arguments.add_argument("--seed", type=seed, default=0, help="seed of drawn scenes [0]")


def judge_of(given: argparse.Namespace) -> Judge | None:
    """The judge that the flags name. Raises `RecipeError` for half of one."""
    if (given.judge is None) != (given.judge_model is None):
        raise RecipeError("A judge needs both `--judge URL` and `--judge-model NAME`.")
    return None if given.judge is None else Judge(url=given.judge, model=given.judge_model)


def tasks_of(given: argparse.Namespace) -> "list[Task]":
    """The tasks that the flags name, cut to `--limit`. Raises `RecipeError` for a prompt that never asks."""
    options = TaskOptions(judge=judge_of(given), spacy=given.spacy, synonyms=given.synonyms)
    names = [name.strip() for name in given.task.split(",")]
    refuse_unused(given, names)
    from sightline.evaluation.tasks.registry import named_tasks

    tasks = [task for name in names for task in named_tasks(name, given.data, seed=given.seed, options=options)]
    changes = {}
    if given.prompt is not None:
        if "{question}" not in given.prompt:
            raise RecipeError(f"--prompt {given.prompt!r} has no {{question}} in it, so nothing would be asked.")
        changes["prompt"] = given.prompt
    if given.max_new_tokens is not None:
        changes["max_new_tokens"] = given.max_new_tokens
    return [_cut(replace(task, **changes), given.limit) for task in tasks]


def _cut(task: "Task", limit: int | None) -> "Task":
    """The task's first items, and a note that says so."""
    if limit is None or limit >= len(task.items):
        return task
    note = f"Only the first {limit:,} of {len(task.items):,} items were asked (--limit)."
    return replace(task, items=task.items[:limit], notes=(*task.notes, note))


def refuse_unused(given: argparse.Namespace, names: list[str]) -> None:
    """Raises `RecipeError` for a flag that none of the tasks looks at."""
    if given.data is not None and set(names) == {"scenes"}:
        raise RecipeError("--data is for benchmarks from files; the images of task scenes are drawn. Leave it out.")
    flags = (
        ("--spacy", given.spacy, "amber"),
        ("--synonyms", given.synonyms, "chair"),
        ("--seed", given.seed, "scenes"),
    )
    for flag, value, used_by in flags:
        if value and not any(name.startswith(used_by) for name in names):
            raise RecipeError(f"{flag} is for task {used_by}, which is not among {', '.join(names)}. Leave it out.")
