"""`sightline plan RECIPE.yaml [--gpu 80GB] [--gpus 8] [--flags]`: what memory a recipe takes, and what would fit."""

import argparse
import difflib
import json
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.cli.arguments import Arguments, positive
from sightline.cli.recipe_flags import recipe_of
from sightline.config import Recipe
from sightline.config.on_disk import refuse_no_model
from sightline.errors import RecipeError, UserError
from sightline.recipe import dump_recipe

DESCRIPTION = """How much memory a recipe takes, line by line, and the cheapest change that fits a GPU. No weights are
loaded and no GPU is needed. Every other flag is one of the recipe's (`sightline train --help`)."""
SIZES = ("image", "text_tokens", "response_tokens")
NUM_ROWS = 64
"""Rows of the data that are looked at; the longest is planned for."""


def run(argv: list[str]) -> int:
    """Print the page, or JSON with `--json`; write the recipe that fits with `--apply`."""
    path = argv[0] if argv and not argv[0].startswith("-") else None
    arguments = _arguments()
    given, flags = arguments.parse_known_args(argv[1:] if path else argv)
    recipe = _recipe(path, flags, arguments)
    if recipe.model.name:
        refuse_no_model(recipe.model.name)
    if given.apply is not None:
        _check_new_file(Path(given.apply), given)

    from sightline.cli.terminal import quiet

    quiet()
    from sightline.memory.estimator import Estimator
    from sightline.memory.page import plan_page
    from sightline.memory.planner import memory_here, read_size
    from sightline.memory.report import make_plan
    from sightline.memory.shapes import find_config
    from sightline.rehearsal.refusals import refuse_model_of

    gpu = memory_here() if given.gpu is None else read_size(given.gpu)
    gpus = given.gpus or recipe.nproc_per_node or 1
    config = find_config(recipe.model)
    _refuse_engine(recipe, gpus)
    estimator = Estimator(config, _sizes(given, recipe), _row(given, recipe, config))
    refuse_model_of(recipe, estimator)
    plan = make_plan(estimator, recipe, gpu=gpu, gpus=gpus)
    kept = flags if plan.fit is None else without(flags, plan.fit.fields)
    command = shlex.join([path, *kept] if path else kept)
    print(json.dumps(plan.as_json(), indent=2) if given.json else plan_page(plan, command))
    if given.apply is not None:
        if plan.fit is None:
            raise UserError(f"Nothing known here makes the recipe fit, so {given.apply} was not written.")
        Path(given.apply).write_text(dump_recipe(plan.fit.recipe), encoding="utf-8")
    return 0


def _recipe(path: str | None, flags: list[str], arguments: Arguments) -> Recipe:
    """The recipe; a misspelt flag may also have been meant for this command."""
    try:
        return recipe_of(path, flags)
    except RecipeError as error:
        own = [flag for action in arguments._actions for flag in action.option_strings]
        for word in (flag.partition("=")[0] for flag in flags):
            close = difflib.get_close_matches(word, own, n=1, cutoff=0.75)
            if close and f"Flag {word}: there is no" in str(error):
                raise RecipeError(f"sightline plan: there is no {word}. Did you mean {close[0]}?") from None
        raise


def _check_new_file(path: Path, given: argparse.Namespace) -> None:
    """Raises `UserError` where `--apply` could not write there, or would have nothing to fit."""
    problems = {
        "give --gpu, so that there is something to fit.": given.gpu is None,
        "that file exists already.": path.exists(),
        f"there is no folder {path.parent}.": not path.parent.is_dir(),
    }
    for problem, is_so in problems.items():
        if is_so:
            raise UserError(f"`--apply {path}` writes the recipe that fits into a new file: {problem}")


def _refuse_engine(recipe: Recipe, gpus: int) -> None:
    """What training refuses of an engine, and an engine for several GPUs on one."""
    from sightline.training.distributed.requested import requested_engine

    if gpus == 1 and recipe.engine not in ("auto", "ddp"):
        raise UserError(
            f"`engine: {recipe.engine}` shards a model over several GPUs, but the plan is for one. Give --gpus 8, or "
            "leave `engine` out."
        )
    requested_engine(recipe).check_recipe(recipe, gpus)


def without(flags: list[str], keys: Iterable[str]) -> list[str]:
    """The flags but those that set one of these recipe keys, values included."""
    kept, dropping = [], False
    for word in flags:
        if word.startswith("--"):
            dropping = word[2:].partition("=")[0].replace("-", "_") in keys
        if not dropping:
            kept.append(word)
    return kept


def _arguments() -> Arguments:
    arguments = Arguments("plan", DESCRIPTION, "sightline plan RECIPE.yaml [--gpu 80GB] [--gpus N] [--flags]")
    arguments.add_argument("--gpu", help="memory of a GPU, as 80GB or 24GiB [this machine's]")
    arguments.add_argument("--gpus", type=positive, help="how many of them [1, or the recipe's nproc_per_node]")
    arguments.add_argument("--json", action="store_true", help="print JSON, everything in bytes")
    arguments.add_argument("--apply", metavar="NEW.yaml", help="write the recipe that fits")
    arguments.add_argument("--image", type=_image, help="pixels of an image [1024x768, or the data's]")
    arguments.add_argument("--text-tokens", type=positive, help="of the prompt, without its image [64]")
    arguments.add_argument("--response-tokens", type=positive, help="of each response [256, or the sampler's limit]")
    return arguments


def _image(text: str) -> tuple[int, int]:
    width, by, height = text.lower().partition("x")
    if not (by and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} is no size of an image, such as 1024x768")
    return int(width), int(height)


def _sizes(given: argparse.Namespace, recipe: Recipe) -> Any:
    from sightline.memory.sample import ImageSize, usual_sizes

    usual = usual_sizes(recipe)
    return replace(
        usual,
        image=ImageSize(*given.image) if given.image else usual.image,
        text_tokens=given.text_tokens or usual.text_tokens,
        response_tokens=given.response_tokens or usual.response_tokens,
    )


def _row(given: argparse.Namespace, recipe: Recipe, config: Any) -> Any:
    """A row through the model's processor where that is at hand: the longest of the first rows of the data, or one of
    the sizes asked for. None where a row has to be made up."""
    from sightline.memory.sample import has_processor, rendered_group
    from sightline.memory.skeleton import build_skeleton
    from sightline.models.families.find import family_of
    from sightline.models.load import load_processor

    if not has_processor(recipe.model):
        return None
    processor, skeleton = load_processor(recipe.model), build_skeleton(config, recipe).policy
    asked = any(getattr(given, name) for name in SIZES)
    if asked or recipe.data.source == "scenes" or not recipe.data.is_given:
        return rendered_group(family_of(skeleton), processor, _sizes(given, recipe))
    return _longest_row(recipe, processor, skeleton)


def _longest_row(recipe: Recipe, processor: Any, skeleton: Any) -> Any:
    from sightline.models.families.find import family_of
    from sightline.objectives.objective import build
    from sightline.training.datasets import group_of, training_rows

    rows: Any = training_rows(recipe, build(recipe.objective), processor, skeleton).train
    first = (group_of(rows[i]) for i in range(min(NUM_ROWS, len(rows))))
    groups = [group for group in first if group is not None]
    if not groups:
        raise RecipeError(
            f"None of the first {NUM_ROWS} rows of {recipe.data.source} can be used: see `sightline data`."
        )
    return family_of(skeleton).place(max(groups, key=lambda group: group.num_tokens))
