"""From `--task amber,pope` to tasks."""

import argparse
from dataclasses import replace
from pathlib import Path

from sightline.cli.arguments import Arguments, positive
from sightline.evaluation.task import Task
from sightline.evaluation.tasks import build


def add_task_flags(arguments: Arguments) -> None:
    """Flags that say what is asked."""
    arguments.add_argument("--task", default="scenes", help="one or more, joined by commas [scenes]")
    arguments.add_argument("--data", type=Path, help="folder of the benchmark's own files, pictures in its image/")
    arguments.add_argument("--limit", type=positive, help="only the first so many items of each task")
    arguments.add_argument("--prompt", help="how to ask, {question} standing for the question")
    arguments.add_argument("--seed", type=int, default=0, help="seed of drawn scenes and of intervals [0]")


def tasks_of(given: argparse.Namespace) -> list[Task]:
    """The tasks that the flags name, cut to `--limit`. Raises `RecipeError` for a prompt that never asks."""
    tasks = [task for name in given.task.split(",") for task in _named(name.strip(), given)]
    changes = {}
    if given.prompt is not None:
        if "{question}" not in given.prompt:
            from sightline.errors import RecipeError

            raise RecipeError(f"--prompt {given.prompt!r} has no {{question}} in it, so nothing would be asked.")
        changes["prompt"] = given.prompt
    if given.max_new_tokens is not None:
        changes["max_new_tokens"] = given.max_new_tokens
    return [replace(task, items=task.items[: given.limit], **changes) for task in tasks]


def _named(name: str, given: argparse.Namespace) -> list[Task]:
    if name == "scenes":
        from sightline.scenes.task import scenes_tasks

        return scenes_tasks(seed=given.seed)
    return build(name, given.data)
