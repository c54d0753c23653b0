"""From the names in a recipe to reward functions: built in, `package.module.function`, or `file.py:function`."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from sightline.config.custom import names_user_code
from sightline.config.online import RewardConfig
from sightline.errors import RecipeError, did_you_mean
from sightline.rewards.reward_set import Reward, RewardSet
from sightline.user_code import check_options, find_user_object

BUILT_IN = {
    "think_format": "form:ThinkFormat",
    "accuracy": "accuracy:Accuracy",
    "hallucination": "hallucination:Hallucination",
    "length": "form:Length",
    "repetition": "form:Repetition",
    "judge": "judge:Judge",
    "claims": "claims:Claims",
    "self_check": "self_check:SelfCheck",
    "reward_model": "reward_model:RewardModel",
}
"""Name → module and class in this package; the class's fields are the reward's options."""


def build_reward_set(configs: Sequence[RewardConfig], functions: Sequence[Callable[..., Any]] = ()) -> RewardSet:
    """The rewards of a recipe, and functions given in Python with weight 1.

    Raises `RecipeError` for a name that leads nowhere, or an option that the reward does not have.
    """
    given = [Reward(name=metric_name(function), function=function) for function in functions]
    found = [
        Reward(
            name=config.name.rpartition(":")[2].rpartition(".")[2],
            function=find_function(config.name, config.options),
            weight=config.weight,
            timeout=config.timeout,
            form=config.completions,
        )
        for config in configs
    ]
    return RewardSet([*found, *given])


def metric_name(function: Any) -> str:
    """A function's own name, or its class's."""
    return getattr(function, "__name__", type(function).__name__)


def find_function(name: str, options: dict[str, Any]) -> Callable[..., Any]:
    """The function of that name with its options. Raises `RecipeError`."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        target = getattr(importlib.import_module(f"sightline.rewards.{module}"), attribute)
    elif names_user_code(name):
        target = find_user_object(name, what="Reward")
    else:
        hint = did_you_mean(name, BUILT_IN, f"Built in: {', '.join(BUILT_IN)}.")
        raise RecipeError(f"There is no reward `{name}`. {hint} One's own is `file.py:function` or `module.function`.")
    return _with_options(target, name, options)


def _with_options(target: Any, name: str, options: dict[str, Any]) -> Callable[..., Any]:
    """A class is made with its options; a function gets them at every call."""
    if not callable(target):
        raise RecipeError(f"Reward `{name}` is a {type(target).__name__}, not a function.")
    check_options(target, name, options, what="Reward")
    if not isinstance(target, type):
        return partial(target, **options) if options else target
    try:
        return target(**options)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        place = ".".join(map(str, first["loc"]))
        raise RecipeError(f"Reward `{name}`{f', option `{place}`' if place else ''}: {message}.") from None
    except TypeError as error:
        raise RecipeError(f"Reward `{name}` cannot be made: {error}.") from None
