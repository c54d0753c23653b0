"""`rehearse(recipe)`: the whole way of a run in about a minute, before a GPU is rented for it.

Three real steps with a checkpoint after the second, evaluation where the recipe holds rows out, curves and report, and
then the folder is loaded as a user would load it and asked a question.
"""

import time
from pathlib import Path

from rich.console import Console

from sightline.config import Recipe
from sightline.evaluation.models import Models, source_of
from sightline.forward.head import logits_at_a_time
from sightline.generation.generate import generate
from sightline.generation.text import CompletionText
from sightline.memory.estimator import Estimator
from sightline.memory.sample import usual_sizes
from sightline.memory.shapes import find_config
from sightline.models.families.find import family_of
from sightline.pairs.rounds import train_rounds
from sightline.rehearsal.refusals import refuse_engine
from sightline.rehearsal.shrink import STEPS, shrink
from sightline.scenes.image import image_of
from sightline.scenes.world import draw_scene
from sightline.training.run import RunResult, train
from sightline.types import Example

CHUNK = 2**14
"""Logits at a time: some tens of targets of a tiny vocabulary, as there are of a real one."""
LIMITS = "It says nothing of speed, nor whether the real model learns; `sightline plan` says what fits a GPU."


def rehearse(recipe: Recipe, folder: Path, *, console: Console | None = None, kept: bool = True) -> RunResult:
    """Run the recipe small in `folder`. Raises what training raises: every mistake of the user's that shows here.

    kept: whether the folder stays, so that it is named.
    """
    console = console or Console()
    started = time.perf_counter()
    estimator = Estimator(find_config(recipe.model), usual_sizes(recipe))
    refuse_engine(recipe, estimator)
    console.print(real_run(recipe, planned_peak(recipe, estimator)), highlight=False)
    small = shrink(recipe, folder)
    console.print("Rehearsal, with", highlight=False)
    for change in small.changes:
        console.print(f"  {change}", highlight=False)
    with logits_at_a_time(CHUNK):
        if small.recipe.rounds is not None:
            result = train_rounds(small.recipe, console=console)
        else:
            result = train(small.recipe, console=console, description="Rehearsing", says_where=kept)
    answer = ask(result.folder)
    console.print(f"Loaded again, it answers {answer[:40]!r}", highlight=False)
    seconds = time.perf_counter() - started
    console.print(f"Rehearsed in {seconds:.0f} s: {STEPS} steps, checkpoint, report, answer. {LIMITS}", highlight=False)
    return result


def planned_peak(recipe: Recipe, estimator: Estimator) -> int:
    """Bytes that the real recipe is planned to take on each of its GPUs; no weights are needed."""
    return estimator.estimate(recipe, gpus=recipe.nproc_per_node or 1).peak


def real_run(recipe: Recipe, peak: int) -> str:
    """One sentence on the real run's memory. peak: bytes on each GPU."""
    gpus = recipe.nproc_per_node or 1
    where = "a GPU" if gpus == 1 else f"each of {gpus} GPUs"
    said = f"Real run: {peak / 2**30:.1f} GiB on {where} planned (a row of usual size)"
    if gpus == 1 and recipe.engine not in ("auto", "ddp"):
        said += f", before `engine: {recipe.engine}` spreads it: --nproc-per-node says over how many"
    return said


def ask(run: Path) -> str:
    """One greedy answer of the model in a run folder to a question about an image."""
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is shown?"}]}
    image = image_of(draw_scene(0, 0))
    example = Example(id="asked", source="rehearsal", row_number=0, prompt=(message,), images=(image,))
    source = source_of(str(run))
    with Models([source]).use(source.label) as (model, processor):
        prompt = source.asking.renderer(processor).prompt(source.asking.example(example))
        ((answer,),) = generate(model, processor, [prompt], max_new_tokens=8)
        return CompletionText.of(processor, family_of(model))(answer)
