"""`sightline pairs [RECIPE.yaml] [--flags]`: from images to preference pairs of the model's own completions."""

import json
from pathlib import Path
from typing import Any

from sightline.cli.recipe_flags import recipe_of
from sightline.cli.terminal import paint
from sightline.config import Recipe
from sightline.config.on_disk import refuse_missing, refuse_unwritable
from sightline.errors import RecipeError, UserError

USAGE = """usage: sightline pairs --model M [--adapter A] --data ROWS --output FOLDER
       sightline pairs RECIPE.yaml [--name value ...]

Preference pairs from the model's own completions, as a data set for `sightline
train --data FOLDER`. ROWS is any data set, or a folder of images with
--prompt "Describe this image.", several times for several questions, one drawn
for each image. A stopped command goes on where it was when it is given again.

A recipe's model, lora.adapter, data, sampler, rewards, pairs, seed and
output_dir are used, and each is a flag: `sightline train --help pairs`, sampler
and rewards have their fields. docs/own-pairs.md says which judge to use when.

  --output FOLDER     output_dir of the recipe
  --adapter A         lora.adapter of the recipe
  --prompt TEXT       pairs.prompts of the recipe, again for more
  --json              print the summary as JSON and nothing else
"""
KEPT = "_pairs"
"""What this command's folders hold (`pairs.journal.KEPT`)."""
SHORT = {"--output": "--output-dir", "--adapter": "--lora.adapter"}


def run(argv: list[str]) -> int:
    """Read the recipe, make the pairs, print what they are like."""
    if "--help" in argv or "-h" in argv:
        print(paint(USAGE), end="")
        return 0
    as_json, argv = "--json" in argv, [word for word in argv if word != "--json"]
    path = argv[0] if argv and not argv[0].startswith("-") else None
    recipe = recipe_of(path, spelled_out(argv[1:] if path else argv))
    refuse_missing(recipe)
    refuse_unwritable(recipe)
    make_room(recipe)
    from sightline.cli.terminal import quiet

    quiet()
    from rich.console import Console

    from sightline.pairs.make import make_pairs

    console = Console(stderr=as_json)
    made = make_pairs(recipe, console=console)
    if as_json:
        print(json.dumps({"folder": str(made.folder), "seconds": made.seconds, **made.summary.as_json()}))
        return 0
    print_summary(console, made)
    return 0


def spelled_out(argv: list[str]) -> list[str]:
    """The flags of this command as a recipe's. Raises `RecipeError` for a flag without its value."""
    flags: list[str] = []
    prompts: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, inline = word.partition("=")
        if name == "--prompt":
            text = inline if equals else next(words, None)
            if text is None:
                raise RecipeError('`--prompt` needs a question: `--prompt "Describe this image."`.')
            prompts.append(text)
        elif name in SHORT:
            flags.append(SHORT[name] + equals + inline)
        else:
            flags.append(word)
    return [*flags, "--pairs.prompts", json.dumps(prompts, ensure_ascii=False)] if prompts else flags


def make_room(recipe: Recipe) -> None:
    """Empty the output folder where that is wished; raises `UserError` where it is not this command's to go on with."""
    folder = Path(recipe.output_dir)
    if folder.is_file():
        raise UserError(f"The output folder {folder} is a file. Choose another with --output.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / KEPT).is_dir():
        raise UserError(
            f"The folder {folder} holds files that are no pairs of this command. Choose another with --output."
        )
    if recipe.overwrite_output_dir:
        import shutil

        shutil.rmtree(folder)


def print_summary(console: Any, made: Any) -> None:
    """What was kept, what was left out and why, and what the pairs are like."""
    from rich.table import Table

    summary, counts = made.summary, made.summary.counts
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("pairs", f"{counts.pairs:,} of {counts.prompts:,} prompts")
    for name, number in counts.as_json().items():
        if number and name not in ("pairs", "prompts"):
            table.add_row(name.replace("_", " "), f"{number:,}")
    if summary.margins is not None and summary.margins[2] > 0:
        low, mean, high = summary.margins
        table.add_row("margins", f"{low:.3g} to {high:.3g}, mean {mean:.3g}")
    if summary.longer_chosen_before is not None:
        after = "none differ" if summary.longer_chosen is None else f"{summary.longer_chosen:.0%}"
        table.add_row("chosen side longer", f"{summary.longer_chosen_before:.0%} before balancing, {after} after")
    if summary.tokens is not None:
        table.add_row("tokens", f"chosen {summary.tokens[0]:.1f}, rejected {summary.tokens[1]:.1f} on average")
    for reason, share in summary.reasons.items():
        table.add_row("decided by", f"{reason} {share:.0%}")
    console.print(table, highlight=False)
    console.print(
        f"Saved to {made.folder}: look at pairs.html, train with --data {made.folder}", highlight=False, soft_wrap=True
    )
