"""From the names in a recipe to reward functions: built in, `package.module.function`, or `file.py:function`."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from sightline.config.online import RewardConfig
from sightline.errors import RecipeError, did_you_mean
from sightline.rewards.reward_set import Reward, RewardSet

BUILT_IN = {
    "think_format": "think_format:ThinkFormat",
    "accuracy": "accuracy:Accuracy",
    "hallucination": "hallucination:Hallucination",
    "length": "length:Length",
    "repetition": "repetition:Repetition",
    "judge": "judge:Judge",
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
    elif ":" in name:
        file, _, attribute = name.rpartition(":")
        target = _attribute(_module_in_file(Path(file), name), attribute, name)
    elif name.endswith(".py"):
        raise RecipeError(f"Reward `{name}` is a file: name its function, as in `{name}:FUNCTION`.")
    elif "." in name:
        module, _, attribute = name.rpartition(".")
        target = _attribute(_module(module, name), attribute, name)
    else:
        hint = did_you_mean(name, BUILT_IN, f"Built in: {', '.join(BUILT_IN)}.")
        raise RecipeError(f"There is no reward `{name}`. {hint} One's own is `file.py:function` or `module.function`.")
    return _with_options(target, name, options)


def _with_options(target: Any, name: str, options: dict[str, Any]) -> Callable[..., Any]:
    """A class is made with its options; a function gets them at every call."""
    if not callable(target):
        raise RecipeError(f"Reward `{name}` is a {type(target).__name__}, not a function.")
    known = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = next((option for option in options if option not in known and not takes_any), None)
    if unknown is not None:
        hint = did_you_mean(unknown, known, f"It has: {', '.join(known) or 'none'}.")
        raise RecipeError(f"Reward `{name}` has no option `{unknown}`. {hint}")
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


def _module_in_file(path: Path, name: str) -> ModuleType:
    if not path.is_file():
        raise RecipeError(
            f"Reward `{name}`: there is no file {path}. The path is relative to the folder that the run starts in."
        )
    # under a name of its own: `types.py` must not become Python's `types`
    spec = importlib.util.spec_from_file_location(f"reward_file_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _not_imported(name, str(path), error) from error
    return module


def _module(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise _not_imported(name, module, error) from error
        raise RecipeError(
            f"Reward `{name}`: there is no module `{error.name}`. Install its package, or name a `file.py:function`."
        ) from None
    except (Exception, SystemExit) as error:
        raise _not_imported(name, module, error) from error


def _not_imported(name: str, what: str, error: BaseException) -> RecipeError:
    """What the user's own code did while it was imported, and where."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}, line {error.lineno}"
    else:
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename][-1]
        where = f"{last.filename}, line {last.lineno}"
    said = error.msg if isinstance(error, SyntaxError) else error
    return RecipeError(
        f"Reward `{name}`: {what} cannot be imported: {type(error).__name__}: {said} ({where}). Mend it."
    )


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    if hasattr(module, attribute):
        return getattr(module, attribute)
    functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
    hint = did_you_mean(attribute, functions, f"It has: {', '.join(functions) or 'no function'}.")
    raise RecipeError(f"Reward `{name}`: {module.__file__} has no function `{attribute}`. {hint}")
