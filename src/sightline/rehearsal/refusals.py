"""What training refuses of an engine, found where no GPU is needed: by a rehearsal and by `sightline plan`."""

from sightline.config import Recipe
from sightline.memory.estimate import reference_mode
from sightline.memory.estimator import Estimator
from sightline.objectives.objective import build
from sightline.training.arguments import device
from sightline.training.distributed.engine import asked_engine, refuse_what_shards_cannot
from sightline.training.distributed.zero import STAGES, check_installed, refuse_model


def refuse_engine(recipe: Recipe, estimator: Estimator) -> None:
    """Raises `UserError` where the real run would: its engine is not installed, or does not do what the recipe asks."""
    engine = asked_engine(recipe)
    check_installed(engine, on_cpu=device(recipe).type == "cpu")
    # a launcher may start more than the recipe says
    refuse_what_shards_cannot(recipe, recipe.nproc_per_node or 2)
    if engine in STAGES:
        refuse_model_of(recipe, estimator)


def refuse_model_of(recipe: Recipe, estimator: Estimator) -> None:
    """Raises `RecipeError` for a model that the engine cannot train; no weights are needed."""
    reference = reference_mode(recipe) if build(recipe.objective).needs_reference else None
    refuse_model(estimator.skeleton(recipe).policy, reference, asked_engine(recipe))
