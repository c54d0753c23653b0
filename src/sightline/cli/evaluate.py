"""`sightline evaluate MODEL [--adapter A] --task amber,pope --data DIR`."""

import argparse
import json
from pathlib import Path

from sightline.cli.arguments import Arguments, add_model_flags, positive
from sightline.errors import RecipeError


def run(argv: list[str]) -> int:
    """Answer, score, print a table (or JSON), and write answers and summary to the output folder."""
    arguments = _arguments()
    given = arguments.parse(argv)
    if (given.model is None) == (given.responses is None):
        raise RecipeError("Give either a MODEL to ask, or `--responses FILE` with answers made elsewhere.")

    from sightline.cli.quiet import quiet

    quiet()
    from rich.console import Console

    from sightline.cli.tasks import tasks_of
    from sightline.evaluation.summary import summarise
    from sightline.evaluation.table import group_table, table

    console = Console(stderr=given.json)
    tasks = tasks_of(given)
    label, records = _from_file(given, tasks) if given.responses else _from_model(given, tasks, console)
    summaries = [summarise(task, records[task.name]) for task in tasks if records[task.name]]
    if given.json:
        print(json.dumps({s.task.name: s.as_json() for s in summaries}, ensure_ascii=False))
    for summary in summaries if not given.json else ():
        console.print(table(summary, label), "", highlight=False)
        groups = group_table(summary, summary.task.metrics[:4])
        if groups is not None:
            console.print(groups, "", highlight=False)
        for note in summary.task.notes:
            console.print(note, highlight=False)
        if summary.unanswered:
            console.print(f"{summary.unanswered} of its items have no answer and are not counted.", highlight=False)
    for task in tasks:
        if not records[task.name]:
            console.print(f"No answers to {task.title}: not scored.", highlight=False)
    return 0


def _arguments() -> Arguments:
    from sightline.cli.tasks import add_task_flags

    arguments = Arguments("evaluate", "Score a model, with 95% intervals.")
    arguments.add_argument("model", metavar="MODEL", nargs="?", help="hub id, folder, run folder, or `embedded`")
    arguments.add_argument("--adapter", help="folder of a LoRA adapter on MODEL")
    arguments.add_argument("--responses", type=Path, help="JSON of {id, response} to score instead of a model")
    add_task_flags(arguments)
    arguments.add_argument("--output", type=Path, help="folder for answers and summaries [evaluation/MODEL]")
    arguments.add_argument("--batch-size", type=positive, default=32, help="answers at a time [32]")
    arguments.add_argument("--json", action="store_true", help="print every figure as JSON and nothing else")
    add_model_flags(arguments)
    return arguments


def _from_file(given: argparse.Namespace, tasks: list) -> tuple[str, dict]:
    """Answers of `--responses`, by task."""
    from sightline.evaluation.responses import read_responses

    return given.responses.stem, read_responses(given.responses, tasks)


def _from_model(given: argparse.Namespace, tasks: list, console) -> tuple[str, dict]:
    """Answers of the model, by task; what an earlier run wrote down is not asked again."""
    from sightline.cli.progress import counting
    from sightline.evaluation.models import Models, source_of
    from sightline.evaluation.run import evaluate, write_summary
    from sightline.evaluation.tasks.files import require_pictures

    require_pictures(tasks)
    source = source_of(given.model, given.adapter)
    output = given.output or Path("evaluation") / source.label
    output.mkdir(parents=True, exist_ok=True)
    records = {}
    with Models([source], device=given.device, dtype=given.dtype).use(source.label) as (model, processor):
        for task in tasks:
            with counting(console, task.title) as progress:
                records[task.name] = evaluate(
                    model,
                    processor,
                    task,
                    path=output / f"{task.name}.jsonl",
                    origin=source.origin,
                    batch_size=given.batch_size,
                    progress=progress,
                )
            write_summary(output / f"{task.name}.json", task, records[task.name], source.origin)
    console.print(f"Answers and summaries are in {output}", highlight=False)
    return source.label, records
