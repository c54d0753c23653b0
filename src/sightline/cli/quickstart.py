"""`sightline quickstart`: the whole journey on the embedded model and data."""

import shutil
from pathlib import Path

from sightline.cli.arguments import Arguments, new_name, positive, seed
from sightline.errors import UserError

DESCRIPTION = """The whole journey on the embedded model: pairs from its own mistakes, DPO, a control, evaluation with
intervals, and a report. Minutes on two cores, no network."""


def run(argv: list[str]) -> int:
    """Parse the few flags, make the folder, take the journey."""
    parser = Arguments("quickstart", DESCRIPTION)
    parser.add_argument("--output-dir", type=new_name, default=Path("quickstart"), help="folder to write [quickstart]")
    parser.add_argument("--overwrite-output-dir", action="store_true", help="empty the folder of an earlier quickstart")
    parser.add_argument("--seed", type=seed, default=0, help="seed of pairs, order and adapters [0]")
    parser.add_argument("--num-scenes", type=positive, default=1000, help="images to evaluate on [1000]")
    parser.add_argument("--max-steps", type=positive, help="fewer steps than the recipes say, to try the path")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    options = parser.parse(argv)
    folder = make_folder(options.output_dir, overwrite=options.overwrite_output_dir)
    from sightline.cli.terminal import quiet

    quiet()
    from rich.console import Console

    from sightline.quickstart.journey import quickstart

    console = Console(stderr=options.json)
    report = quickstart(
        folder, seed=options.seed, console=console, num_scenes=options.num_scenes, max_steps=options.max_steps
    )
    console.print(f"\nOpen {report} in a browser; the figures are in {folder / 'metrics.json'}", highlight=False)
    if options.json:
        print((folder / "metrics.json").read_text(encoding="utf-8"), end="")
    return 0


MARK = ".sightline-quickstart"
"""A file that says a folder may be emptied by --overwrite-output-dir."""


def make_folder(folder: Path, *, overwrite: bool) -> Path:
    """An empty folder for the journey. Raises `UserError` where something else is there."""
    if folder.is_file():
        raise UserError(f"{folder} is a file. Choose a folder with --output-dir.")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise UserError(
                f"The folder {folder} is not empty and was not made by quickstart. Choose another with --output-dir."
            )
        if not overwrite:
            raise UserError(
                f"The folder {folder} holds an earlier quickstart. Empty it with --overwrite-output-dir, or choose "
                "another with --output-dir."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder
