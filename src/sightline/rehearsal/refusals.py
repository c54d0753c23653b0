"""What training refuses of an engine, found where no GPU is needed: by a rehearsal and by `sightline plan`."""

from sightline.config import Recipe
from sightline.memory.estimate import reference_mode
from sightline.memory.estimator import Estimator
from sightline.objectives.objective import build
from sightline.training.arguments import device
from sightline.training.distributed.requested import requested_engine


def refuse_engine(recipe: Recipe, estimator: Estimator) -> None:
    """Raises `UserError` where the real run would: its engine is not installed, or does not do what the recipe asks."""
    engine = requested_engine(recipe)
    engine.check_installed(on_cpu=device(recipe).type == "cpu")
    # a launcher may start more than the recipe says
    engine.check_recipe(recipe, recipe.nproc_per_node or 2)
    if engine.sharded:
        refuse_model_of(recipe, estimator)


def refuse_model_of(recipe: Recipe, estimator: Estimator) -> None:
    """Raises `RecipeError` for a model that the engine cannot train; no weights are needed."""
    reference = reference_mode(recipe) if build(recipe.objective).needs_reference else None
    requested_engine(recipe).check_model(estimator.skeleton(recipe).policy, reference)
