"""Objects given to `train` in Python instead of by name: a loss, a sampler, tasks.

They enter the recipe under a name of their own, so that they meet the same checks and errors as `type: my.py:NAME`.
"""

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from sightline.config import Recipe
from sightline.config.custom import OBJECTIVE_KINDS, CustomPairConfig, CustomSamplerConfig
from sightline.config.online import SamplingConfig
from sightline.config.refusal import default
from sightline.errors import RecipeError
from sightline.evaluation.task import Task
from sightline.objectives.custom import OF_REFERENCE
from sightline.rollouts.sampler import Sampler
from sightline.user_code import give_user_object


def with_objects(recipe: Recipe, *, objective: Any = None, sampler: Any = None, tasks: Sequence[Any] = ()) -> Recipe:
    """The recipe with the objects in place of what it names. What both have, such as `beta`, stays the recipe's.

    objective: a loss as docs/extending.md describes; what it takes says whether it is over pairs, tokens or online.
    sampler: a `Sampler`, or a class or function `(model, processor, **options)` that makes one.
    tasks: scored beside the recipe's `evaluation.tasks`.
    Raises `RecipeError` for an object that is none of these.
    """
    changes: dict[str, Any] = {}
    if objective is not None:
        changes["objective"] = _objective(recipe, objective)
    if sampler is not None:
        changes["sampler"] = _sampler(recipe, sampler)
    if tasks:
        repeated = [name for name, times in Counter(getattr(t, "name", None) for t in tasks).items() if times > 1]
        if repeated:
            raise RecipeError(f"`tasks` holds several tasks of the name {repeated[0]!r}. Give each a name of its own.")
        names = [give_user_object(task, f"given.{task.name}") for task in tasks if isinstance(task, Task)]
        if len(names) < len(tasks):
            other = next(task for task in tasks if not isinstance(task, Task))
            raise RecipeError(f"`tasks` holds a {type(other).__name__}; expected are `sightline.Task` objects.")
        changes["evaluation"] = replace(recipe.evaluation, tasks=[*recipe.evaluation.tasks, *names])
    return replace(recipe, **changes) if changes else recipe


def _objective(recipe: Recipe, function: Any) -> Any:
    if not callable(function):
        raise RecipeError(f"`objective` is a {type(function).__name__}; expected is a loss, a function of log-probs.")
    try:
        taken = inspect.signature(function).parameters
    except ValueError:  # of a function that is not written in Python
        taken = {}
    found = [kind for kind, name in (("online", "advantage"), ("pairs", "chosen"), ("tokens", "logp")) if name in taken]
    if not found:
        raise RecipeError(
            f"`objective` takes {', '.join(taken) or 'nothing'}. A loss takes, by name, `chosen` and `rejected` (over "
            "pairs), `logp` (over tokens) or `advantage` (over sampled completions); docs/extending.md lists all."
        )
    kind: Any = OBJECTIVE_KINDS[found[0]]
    own: dict[str, Any] = {"function": give_user_object(function, _name_of(function))}
    if kind is CustomPairConfig:
        own["uses_reference"] = any(name in taken for name in OF_REFERENCE)
    return kind(**_in_common(recipe.objective, kind), **own)


def _sampler(recipe: Recipe, sampler: Any) -> CustomSamplerConfig:
    if not callable(sampler) and not isinstance(sampler, Sampler):
        raise RecipeError(
            f"`sampler` is a {type(sampler).__name__}; expected is a sampler, or a class or function `(model, "
            "processor)` that makes one; docs/extending.md has an example."
        )
    made = sampler if callable(sampler) else lambda model, processor: sampler
    name = give_user_object(made, _name_of(sampler if callable(sampler) else type(sampler)))
    shared = _in_common(recipe.sampler, CustomSamplerConfig) if isinstance(recipe.sampler, SamplingConfig) else {}
    return CustomSamplerConfig(**shared, function=name)


def _in_common(given: Any, kind: Any) -> dict[str, Any]:
    """Fields of a group that another kind of it has, too; what names user code aside.

    Raises `RecipeError` for one that was set and that the other kind does not have.
    """
    own = {f.name for f in fields(given)} - {"type", "function", "uses_reference"}
    names = own & {f.name for f in fields(kind)}
    if type(given) is not kind:
        names -= {"options"}
    lost = sorted(name for name in own - names if getattr(given, name) != default(type(given), name))
    if lost:
        raise RecipeError(
            f"The recipe sets `{lost[0]}` of `type: {given.type}`, which an object given in Python does not have. "
            "Leave it out of the recipe."
        )
    return {name: getattr(given, name) for name in names}


def _name_of(made: Any) -> str:
    """`module.name`, what a recipe would say of it where it can be imported."""
    return f"{made.__module__}.{getattr(made, '__qualname__', type(made).__name__)}"
