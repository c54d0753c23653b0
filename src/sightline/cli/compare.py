"""`sightline compare MODEL MODEL … --task scenes`: the same questions, side by side."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.cli.arguments import LOADING, Arguments, add_model_flags, loading, new_name, positive, whole
from sightline.errors import RecipeError

DESCRIPTION = """Ask several models the same questions and write one HTML page with significance, answers side by side
and filters. A model is a hub id, a folder, a run folder, `embedded`, or the folder of answers that `sightline
evaluate` wrote, or a file of answers (JSON, JSONL or parquet of {id, response}); `label=model` names it. The first
is what the others are compared with."""

NOT_SERVED = (
    *("task", "data", "limit", "prompt", "judge", "judge_model", "spacy", "synonyms", "seed", "output", "show"),
    *("batch_size", "json", "max_new_tokens"),
)
"""Arguments that say nothing to the page of `--serve`."""
PAIRS_AT_ONCE = 8
"""Pairs that the judge is asked about at a time."""


def run(argv: list[str]) -> int:
    """Ask, compare, print what is significant, write the page."""
    arguments = _arguments()
    given = arguments.parse(argv)
    if len(given.models) < 2:
        raise RecipeError("A comparison takes two models or more: `sightline compare embedded runs/dpo --task scenes`.")

    from sightline.cli.terminal import quiet

    quiet()
    if given.serve:
        arguments.refuse(given, NOT_SERVED, "with `--serve` images and questions come from the page")
        return _serve(given)
    arguments.refuse(given, ("port",), "`--port` is for `--serve`")
    from rich.console import Console

    from sightline.cli.tasks import tasks_of
    from sightline.report.comparison import section, write_comparison

    console = Console(stderr=given.json)
    tasks = tasks_of(given)
    answers, notes = _answers(arguments, given, tasks, console)
    for note in notes:
        console.print(note, highlight=False)
    tasks = [replace(task, notes=(*task.notes, *notes)) for task in tasks]
    sections = []
    for task in tasks:
        judgements = _judgements(given, console, task, answers[task.name])
        found = section(task, answers[task.name], judgements=judgements, show=given.show)
        sections.append(found)
        if not given.json:
            _print(console, found)
            for line in task.notes:
                if line not in notes:
                    console.print(line, highlight=False)
    labels = list(answers[tasks[0].name])
    title = f"{', '.join(labels[:-1])} and {labels[-1]} on the same questions"
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "comparison.html"
    write_comparison(path, sections, labels, title, _curves(given))
    if given.json:
        print(json.dumps({s.title: _as_json(s) for s in sections}))
    console.print(f"Side by side in {path}", highlight=False)
    return 0


def _arguments() -> Arguments:
    from sightline.cli.tasks import add_task_flags

    arguments = Arguments("compare", DESCRIPTION)
    arguments.add_argument("models", metavar="MODEL", nargs="+", help="two or more; `label=model` gives one a name")
    add_task_flags(arguments)
    arguments.add_argument("--output", type=new_name, default=Path("comparison"), help="folder [comparison]")
    arguments.add_argument(
        "--show", type=positive, default=300, help="questions on the page, the telling ones first [300]"
    )
    arguments.add_argument("--serve", action="store_true", help="instead, a page on 127.0.0.1 to upload images and ask")
    arguments.add_argument("--port", type=whole(1, 65_535), help="port of --serve [the first free one from 7860]")
    arguments.add_argument("--batch-size", type=positive, default=32, help="answers at a time [32]")
    arguments.add_argument("--json", action="store_true", help="print the tests as JSON and nothing else")
    add_model_flags(arguments)
    return arguments


def _serve(given: argparse.Namespace) -> int:
    """The app, until it is interrupted. All bases stay in memory."""
    from importlib.util import find_spec

    from sightline.evaluation.models import Models, source_of
    from sightline.evaluation.quantization import bits_note

    if find_spec("gradio") is None:
        raise RecipeError("`--serve` needs gradio: `pip install 'sightline[app]'`.")
    from sightline.app.page import serve

    sources = [source_of(text) for text in given.models]
    models = Models(sources, keep=len(sources), **loading(given))
    labels = [source.label for source in sources]
    for label in labels:
        with models.use(label):
            pass  # a model that cannot be loaded is named before the page is there
    for note in (bits_note({label: models.sources[label].bits for label in labels}), models.asking_note()):
        if note is not None:
            print(note)
    serve(models, labels, port=given.port)
    return 0


def _answers(
    arguments: Arguments, given: argparse.Namespace, tasks: list[Any], console: Any
) -> tuple[dict[str, dict[str, list[Any]]], list[str]]:
    """Records by task and label, and a word on models that see images differently or are kept in fewer bits.

    Models are asked one after another, adapters of one base without loading it again. Only they and
    the judge need the images.
    """
    from sightline.cli.terminal import counting
    from sightline.evaluation.models import Models, reading_note, source_of
    from sightline.evaluation.quantization import bits_note
    from sightline.evaluation.run import evaluate
    from sightline.evaluation.tasks.files import require_images

    sources = [source_of(text) for text in given.models]
    models = Models(sources, **loading(given))
    stored = {source.label: _stored(source, tasks) for source in sources}
    if all(stored.values()):
        arguments.refuse(given, ("batch_size", *LOADING), "all answers are stored and no model is asked")
    if given.judge is not None or not all(stored.values()):
        require_images(tasks)
    answers: dict[str, dict[str, list[Any]]] = {task.name: {} for task in tasks}
    processors = {}
    for source in sources:
        if (found := stored[source.label]) is not None:
            for task in tasks:
                answers[task.name][source.label] = found[task.name]
            continue
        folder = given.output / source.label
        folder.mkdir(parents=True, exist_ok=True)
        with models.use(source.label) as (model, processor):
            processors[source.label] = processor
            for task in tasks:
                with counting(console, f"{source.label}: {task.title}") as progress:
                    answers[task.name][source.label] = evaluate(
                        model,
                        processor,
                        task,
                        path=folder / f"{task.name}.jsonl",
                        origin=models.origin(source.label),
                        asking=models.asking(source.label),
                        batch_size=given.batch_size,
                        progress=progress,
                    )
    bits = bits_note({label: models.sources[label].bits for label in processors})
    notes = reading_note(processors), bits, models.asking_note(processors) if processors else None
    return answers, [note for note in notes if note is not None]


def _stored(source: Any, tasks: list[Any]) -> dict[str, list[Any]] | None:
    """Records by task of a folder that `evaluate` wrote, or of a file of answers; None where a model is to be asked."""
    from sightline.evaluation.record import read, rescored
    from sightline.evaluation.responses import read_responses

    place = Path(source.base)
    if source.adapter is None and place.is_file():
        return read_responses(place, tasks)
    written = {task.name: place / f"{task.name}.jsonl" for task in tasks}
    if source.adapter is not None or not all(path.is_file() for path in written.values()):
        return None
    return {task.name: rescored(task, read(written[task.name])) for task in tasks}


def _curves(given: argparse.Namespace) -> list[Any]:
    """Training curves of those models that are runs."""
    from sightline.evaluation.models import source_of
    from sightline.report.comparison import training_curves

    folders = {s.label: Path(s.adapter or s.base) / "metrics.jsonl" for s in map(source_of, given.models)}
    return training_curves({label: path for label, path in folders.items() if path.is_file()})


def _judgements(given: argparse.Namespace, console: Any, task: Any, answers: dict[str, list[Any]]) -> list[Any]:
    """What the judge, if there is one, says of every model against the first."""
    from sightline.cli.tasks import judge_of
    from sightline.cli.terminal import counting
    from sightline.evaluation.win_rate import pair_judge, win_rate
    from sightline.report.contents import Judgement

    judge = judge_of(given)
    if judge is None:
        return []
    first, *others = answers
    judgements = []
    for label in others:
        with counting(console, f"{judge.model} judges {label}") as progress:
            found = win_rate(
                task, answers[first], answers[label], pair_judge(judge), num_parallel=PAIRS_AT_ONCE, progress=progress
            )
        judgements.append(Judgement(a=first, b=label, judge=judge.model, found=found))
    return judgements


def _as_json(found: Any) -> dict[str, Any]:
    """The tests and verdicts of every model against the first."""
    tests = {c.b: t.as_json() for c, t in zip(found.comparisons, found.tests, strict=True)}
    for j in found.judgements:
        tests[j.b]["judge"] = {"model": j.judge, **j.found.as_json()}
    return tests


def _print(console: Any, found: Any) -> None:
    """Figures of all models, McNemar's test of every one against the first, and the judge's verdicts."""
    from sightline.evaluation.table import published, table
    from sightline.report.html import p_value

    console.print(found.title, style="bold", highlight=False)
    console.print(table(found.summaries), "", highlight=False)
    for line in published(next(iter(found.summaries.values()))):
        console.print(line, highlight=False)
    for c in found.comparisons:
        console.print(
            f"  {c.b} against {c.a}: {c.test.only_b} right only for {c.b}, {c.test.only_a} only for {c.a}; "
            f"{p_value(c.test.p_value)} (exact McNemar over images); smallest difference that {c.on} show: "
            f"{c.smallest:.2f} points",
            highlight=False,
        )
    for j in found.judgements:
        rate, kept = j.found.win_rate, j.found.consistency
        counts = [f"{j.found.wins} won, {j.found.losses} lost, {j.found.ties} tied, {j.found.equal} of them equal"]
        counts += [f"position consistency {kept.value:.1f}%"] if kept else []
        counts += [f"{j.found.unread} pairs with a reply that was no verdict"] if j.found.unread else []
        console.print(
            f"  {j.b} wins {rate.value:.1f}% [{rate.low:.1f}, {rate.high:.1f}] against {j.a}, says {j.judge} "
            f"({'; '.join(counts)})",
            highlight=False,
        )
