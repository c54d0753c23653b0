"""`sightline data show|check|convert|split PATH`: look at rows, name what is wrong with them, write them clean."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.cli.arguments import Arguments, file_name, new_name, positive, real, seed, whole
from sightline.cli.terminal import paint
from sightline.config.on_disk import refuse_no_rows
from sightline.errors import DataError, RecipeError

COMMANDS = {
    "show": "print rows and draw them into an HTML page",
    "check": "read everything and report what is there and what is wrong",
    "convert": "write clean parquet with embedded images and conversational columns",
    "split": "cut into train and test by image, never by row",
}


def run(argv: list[str]) -> int:
    """Exit code 0; `check` gives 1 when there are defects; 2 (a `UserError`) when the rows cannot be read."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<8} {purpose}" for name, purpose in COMMANDS.items()]
        print(paint("\n".join(["usage: sightline data COMMAND PATH [arguments]", "", *lines])))
        return 0
    if argv[0] not in COMMANDS:
        raise RecipeError(f"There is no `sightline data {argv[0]}`. Known: {', '.join(COMMANDS)}.")
    return {"show": _show, "check": _check, "convert": _convert, "split": _split}[argv[0]](argv[1:])


def _arguments(command: str) -> Arguments:
    arguments = Arguments(f"data {command}", COMMANDS[command].capitalize() + ".")
    arguments.add_argument("path", metavar="PATH", nargs="?", type=file_name, help="file, folder, hub id or recipe")
    arguments.add_argument("--recipe", type=Path, help="take data and model from this recipe")
    arguments.add_argument("--split", help="split, or a slice of one such as train[:100] [every split]")
    arguments.add_argument("--format", help="row format [recognised]")
    arguments.add_argument("--media-dir", type=file_name, help="folder of the images [next to the file]")
    arguments.add_argument("--allow-urls", action="store_true", help="fetch images from the web")
    arguments.add_argument("--limit", type=positive, help="read at most this many rows of a split")
    return arguments


def _recipe(given: argparse.Namespace) -> Any:
    """The recipe that was named, or None."""
    from sightline.recipe import load_recipe

    if given.recipe is None and given.path and Path(given.path).suffix in (".yaml", ".yml"):
        given.recipe, given.path = Path(given.path), None
    return None if given.recipe is None else load_recipe(given.recipe)


def _config(given: argparse.Namespace, recipe: Any) -> Any:
    """The data of the recipe, with the flags on top."""
    from sightline.recipe import load_recipe, of_other_rows, structure

    flags = {"split": given.split, "format": given.format, "media_dir": given.media_dir, "limit": given.limit}
    changes = {name: value for name, value in flags.items() if value is not None}
    if given.allow_urls:
        changes["allow_urls"] = True
    if given.path is not None:
        changes["source"] = given.path
    structure({"data": {k: v for k, v in changes.items() if v is not None}})  # refuses a format that is not known
    base = (recipe or load_recipe()).data
    base = base if given.path is None else replace(of_other_rows(base, given.path), eval_source=None)
    config = replace(base, **changes)
    if not config.is_given:
        raise RecipeError("Say which rows: `sightline data COMMAND PATH`, or `--recipe R` with data in it.")
    refuse_no_rows(config)
    if config.source == "scenes":
        raise RecipeError(
            "Scenes are drawn, not read. `sightline quickstart` writes them to a folder that can be read."
        )
    return config


def _splits(given: argparse.Namespace, config: Any) -> dict[str, Any]:
    """Split → its rows."""
    from sightline.data.sources.load import load_rows, split_names

    names = [given.split] if given.split else split_names(config)
    splits = {name: load_rows(config, name) for name in names}
    if config.eval_source is not None:
        splits["eval"] = load_rows(config, "eval")
    if not any(len(rows) for rows in splits.values()):
        raise DataError(f"{config.source or 'The data'} has no rows.")
    return splits


def _renderer(recipe: Any) -> Any:
    """A renderer for the recipe's model; None without one."""
    if recipe is None or not recipe.model.name:
        return None
    from sightline.data.render.render import renderer_of
    from sightline.models.load import load_processor

    return renderer_of(load_processor(recipe.model), recipe.data)


def _quiet_console(to_stderr: bool = False) -> Any:
    from rich.console import Console

    from sightline.cli.terminal import quiet

    quiet()
    return Console(stderr=to_stderr, highlight=False)


def _check(argv: list[str]) -> int:
    arguments = _arguments("check")
    arguments.add_argument("--json", action="store_true", help="print the report as JSON and nothing else")
    arguments.add_argument("--num-proc", type=positive, default=1, help="processes [1]")
    given = arguments.parse(argv)
    recipe = _recipe(given)
    config = _config(given, recipe)
    console = _quiet_console(given.json)
    from sightline.cli.data_tables import print_report
    from sightline.cli.terminal import counting
    from sightline.data.checks.examine import Examiner
    from sightline.data.checks.report import check_rows

    splits = _splits(given, config)
    wanted = _num_responses(recipe)
    total = sum(len(rows) for rows in splits.values())
    with counting(console, "Reading rows") as progress:
        counted = _Counted(progress, total)
        entries = {name: counted(rows.entries()) for name, rows in splits.items()}
        report = check_rows(
            entries,
            Examiner(wanted, _renderer(recipe), needs_label=recipe is not None and wanted is None),
            num_processes=given.num_proc,
        )
    for rows in splits.values():
        report.formats |= rows.formats
    unread = sum(d.count for d in report.defects.values() if d.name in ("row unreadable", "format not recognised"))
    if unread == total:
        first = next(iter(report.defects.values()))
        raise DataError(f"No row can be read. {first.example} ({first.name}). {first.fix}")
    if given.json:
        print(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        print_report(console, report)
    return 0 if report.is_clean else 1


def _num_responses(recipe: Any) -> int | None:
    """How many responses the recipe's objective needs of a row; None where any number will do."""
    if recipe is None:
        return None
    from sightline.objectives.objective import build

    return build(recipe.objective).num_responses


class _Counted:
    """Reports how many entries have passed."""

    def __init__(self, progress: Any, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, entries: Any) -> Any:
        for entry in entries:
            yield entry
            self.done += 1
            if self.done % 50 == 0 or self.done == self.total:
                self.progress(self.done, self.total)


def _show(argv: list[str]) -> int:
    arguments = _arguments("show")
    arguments.add_argument("--rows", type=positive, default=10, help="how many rows of each split [10]")
    arguments.add_argument("--start", type=whole(0, 10**12), default=0, help="first row [0]")
    arguments.add_argument("--html", type=new_name, default=Path("rows.html"), help="the page [rows.html]")
    arguments.add_argument("--json", action="store_true", help="print one JSON object a row and nothing else")
    given = arguments.parse(argv)
    recipe = _recipe(given)
    config = _config(given, recipe)
    console = _quiet_console(given.json)
    from sightline.cli.data_tables import print_row
    from sightline.data.checks.show import shown, write_page

    renderer = _renderer(recipe)
    page = []
    for name, rows in _splits(given, config).items():
        for source, format in rows.formats.items():
            console.print(f"[bold]{name}[/bold]: {len(rows):,} rows; {source} is read as {format}")
        some = rows.select(range(given.start, min(given.start + given.rows, len(rows))))
        for entry in some.entries():
            row = shown(entry, renderer)
            if given.json:
                print(json.dumps({"split": name, **row.as_json()}, ensure_ascii=False))
            else:
                print_row(console, row)
            page.append(row)
    write_page(given.html, page, f"Rows of {config.source or config.registry or given.recipe}")
    console.print(f"Drawn into {given.html}")
    return 0


def _convert(argv: list[str]) -> int:
    arguments = _arguments("convert")
    arguments.add_argument("--output", type=new_name, required=True, help="folder for one parquet file a split")
    arguments.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows out instead of stopping")
    arguments.add_argument("--json", action="store_true", help="print files and their rows as JSON and nothing else")
    given = arguments.parse(argv)
    config = _config(given, _recipe(given))
    console = _quiet_console(given.json)
    splits = {name.partition("[")[0]: rows for name, rows in _splits(given, config).items()}
    _write(console, splits, given)
    return 0


def _split(argv: list[str]) -> int:
    arguments = _arguments("split")
    arguments.add_argument("--output", type=new_name, required=True, help="folder for train.parquet and test.parquet")
    arguments.add_argument("--test-size", type=real(0, 10**9), default=0.1, help="share below 1, or rows [0.1]")
    arguments.add_argument("--seed", type=seed, default=0, help="seed of the cut [0]")
    arguments.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows out instead of stopping")
    arguments.add_argument("--json", action="store_true", help="print files and their rows as JSON and nothing else")
    given = arguments.parse(argv)
    config = _config(given, _recipe(given))
    console = _quiet_console(given.json)
    from sightline.data.holdout import split_by_image
    from sightline.data.sources.load import joined

    if given.test_size <= 0:
        raise RecipeError("--test-size must be above 0: a share of the rows, or a number of them.")
    rows = joined(list(_splits(given, config).values()))
    train, test = split_by_image(rows, given.test_size, given.seed)
    _write(console, {"train": rows.select(train), "test": rows.select(test)}, given)
    return 0


def _write(console: Any, splits: dict[str, Any], given: argparse.Namespace) -> None:
    """One parquet file a split. Raises `DataError` rather than write over another file."""
    from sightline.data.export import export

    written = []
    files = {name: given.output / f"{name}.parquet" for name in splits}
    existing = [file for file in files.values() if file.exists()]
    if existing:
        raise DataError(f"{existing[0]} exists already. Choose another --output, or remove it.")
    finished: list[Path] = []
    for name, rows in splits.items():
        try:
            done = export(rows.entries(), rows.entries(), files[name], skip=given.skip_bad_rows)
        except BaseException:
            for file in finished:  # all of the splits, or none
                file.unlink()
            raise
        finished.append(files[name])
        left_out = f", {len(done.skipped)} bad rows left out" if done.skipped else ""
        console.print(f"{files[name]}: {done.num_rows:,} rows{left_out}", soft_wrap=True)
        written.append({"file": str(files[name]), "rows": done.num_rows, "skipped": [str(e) for e in done.skipped]})
    if given.json:
        print(json.dumps(written, ensure_ascii=False))
