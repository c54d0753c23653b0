"""`sightline evaluate MODEL [--adapter A] --task amber,pope --data DIR`."""

import argparse
import json
from pathlib import Path
from typing import Any

from sightline.cli.arguments import (
    LOADING,
    Arguments,
    add_model_flags,
    file_name,
    loading,
    model_name,
    new_name,
    positive,
)
from sightline.errors import RecipeError

SHOWN = 10
"""Answers that are printed where there is no score."""


def run(argv: list[str]) -> int:
    """Answer, score, print a table (or JSON), and write answers and summary to the output folder."""
    arguments = _arguments()
    given = arguments.parse(argv)
    if given.export is not None:
        asking = ("model", "adapter", "responses", "batch_size", "json", *LOADING)
        arguments.refuse(given, asking, "`--export` writes questions and asks no model")
        return _export(given)
    if given.model is None and given.responses is None:
        raise RecipeError("Give either a MODEL to ask, or `--responses FILE` with answers made elsewhere.")
    if given.responses is not None:
        asking = ("model", "adapter", "batch_size", "max_new_tokens", *LOADING)
        arguments.refuse(given, asking, "`--responses FILE` scores answers made elsewhere and asks no model")
    judged = {"mmhal", "mathvista"} & {name.strip() for name in given.task.split(",")}
    if not judged:
        arguments.refuse(given, ("judge", "judge_model"), "here a judge grades mmhal and mathvista only")

    from sightline.cli.terminal import quiet

    quiet()
    from rich.console import Console

    from sightline.cli.tasks import tasks_of
    from sightline.evaluation.summary import summarise

    console = Console(stderr=given.json)
    tasks = tasks_of(given)
    label, records = _from_file(given, tasks, console) if given.responses else _from_model(given, tasks, console)
    summaries = [summarise(task, records[task.name]) for task in tasks if records[task.name]]
    if given.json:
        print(json.dumps({s.task.name: s.as_json() for s in summaries}, ensure_ascii=False))
    for summary in summaries if not given.json else ():
        _show(console, summary, label)
        if not summary.task.correct:
            _show_answers(console, summary.task, records[summary.task.name])
    for task in tasks:
        if not records[task.name]:
            console.print(f"No answers to {task.title}: not scored.", highlight=False)
    return 0


def _show(console: Any, summary: Any, label: str) -> None:
    """A task's figures on the terminal."""
    from sightline.evaluation.table import group_tables, official, published, table, title

    console.print(title(summary), style="bold", highlight=False)
    for shown in (table({label: summary}), *group_tables(summary)):
        console.print(shown, "", highlight=False)
    for line in (*published(summary), *official(summary), *summary.task.notes):
        console.print(line, highlight=False)
    if summary.unanswered:
        console.print(f"{summary.unanswered} of its items have no answer and are not counted.", highlight=False)


def _show_answers(console: Any, task: Any, records: list) -> None:
    """The first answers of a task that is not scored."""
    from rich.markup import escape

    said = {record.id: record for record in records}
    for item in [item for item in task.items if item.id in said][:SHOWN]:
        console.rule(escape(item.id), align="left")
        console.print(f"{item.question}\n\n{said[item.id].answer}", highlight=False, markup=False)
    if len(said) > SHOWN:
        console.print(f"… and {len(said) - SHOWN:,} more, all in {task.name}.jsonl", highlight=False)


def _arguments() -> Arguments:
    from sightline.cli.tasks import add_task_flags

    arguments = Arguments("evaluate", "Score a model, with 95% intervals.")
    arguments.add_argument(
        "model", metavar="MODEL", nargs="?", type=model_name, help="hub id, folder, run or `embedded`"
    )
    arguments.add_argument("--adapter", type=file_name, help="LoRA adapter on MODEL, a folder or hub id")
    arguments.add_argument("--responses", type=Path, help="JSON, JSONL or parquet of {id, response} to score")
    add_task_flags(arguments)
    arguments.add_argument("--export", choices=["lmms-eval"], help="write the tasks for lmms-eval instead of asking")
    arguments.add_argument(
        "--output", type=new_name, help="folder for answers and summaries [evaluation/MODEL; with --responses: none]"
    )
    arguments.add_argument("--batch-size", type=positive, default=32, help="answers at a time [32]")
    arguments.add_argument("--json", action="store_true", help="print every figure as JSON and nothing else")
    add_model_flags(arguments)
    return arguments


def _export(given: argparse.Namespace) -> int:
    """`--export lmms-eval`: a folder with the tasks, to be run in lmms-eval's own environment."""
    from sightline.cli.tasks import tasks_of
    from sightline.evaluation.lmms_eval import export

    folder = given.output or Path("lmms-eval")
    names = export(tasks_of(given), folder)
    print(f"Tasks {', '.join(names)} are in {folder}. In lmms-eval's own environment:")
    print(f"  lmms-eval --include_path {folder} --tasks {','.join(names)} --log_samples --output_path out …")
    print("then `sightline evaluate --responses out/…/*_samples_….jsonl` scores the answers as here.")
    return 0


def _from_file(given: argparse.Namespace, tasks: list, console: Any) -> tuple[str, dict]:
    """Answers of `--responses`, by task; with `--output` they are written as a model's would be, scores and all."""
    from sightline.evaluation.responses import read_responses, write_responses

    records = read_responses(given.responses, tasks)
    if given.output is not None:
        write_responses(given.output, given.responses, [(task, records[task.name]) for task in tasks])
        console.print(f"Answers and summaries are in {given.output}", highlight=False)
    return given.responses.stem, records


def _from_model(given: argparse.Namespace, tasks: list, console) -> tuple[str, dict]:
    """Answers of the model, by task; what an earlier run wrote down is not asked again."""
    from sightline.cli.terminal import counting
    from sightline.evaluation.models import Models, source_of
    from sightline.evaluation.quantization import bits_note
    from sightline.evaluation.run import evaluate
    from sightline.evaluation.summary import write_summary
    from sightline.evaluation.tasks.files import require_images

    require_images(tasks)
    source = source_of(given.model, given.adapter)
    output = given.output or Path("evaluation") / source.label
    output.mkdir(parents=True, exist_ok=True)
    records = {}
    models = Models([source], **loading(given))
    for note in (bits_note({source.label: source.bits}), models.asking_note()):
        if note is not None:
            console.print(note, highlight=False)
    with models.use(source.label) as (model, processor):
        for task in tasks:
            with counting(console, task.title) as progress:
                records[task.name] = evaluate(
                    model,
                    processor,
                    task,
                    path=output / f"{task.name}.jsonl",
                    origin=models.origin(source.label),
                    asking=models.asking(source.label),
                    batch_size=given.batch_size,
                    progress=progress,
                )
            write_summary(output / f"{task.name}.json", task, records[task.name], models.origin(source.label))
    console.print(f"Answers and summaries are in {output}", highlight=False)
    return source.label, records
