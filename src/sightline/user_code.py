"""Objects of the user's own that a recipe or a flag names: `file.py:NAME`, or `package.module.NAME`.

Rewards, objectives, samplers and tasks are found alike, with the same checks and errors.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sightline.errors import RecipeError, did_you_mean

_GIVEN: dict[str, Any] = {}
"""Objects given in Python, by the names that recipes have for them."""


def give_user_object(given: Any, name: str) -> str:
    """Let `name` lead to this object in this process; the name."""
    _GIVEN[name] = given
    return name


def find_user_object(name: str, *, what: str) -> Any:
    """The object that `name` leads to. what: the kind of thing, such as `Reward`, for messages.

    Raises `RecipeError` where there is no such file, module or name, or the user's code fails while it is imported.
    """
    if name in _GIVEN:
        return _GIVEN[name]
    if ":" in name:
        file, _, attribute = name.rpartition(":")
        return _attribute(_module_in_file(Path(file), name, what), attribute, name, what)
    if name.endswith(".py"):
        raise RecipeError(f"{what} `{name}` is a file: name the function or class in it, as in `{name}:NAME`.")
    module, _, attribute = name.rpartition(".")
    return _attribute(_module(module, name, what), attribute, name, what)


def check_options(target: Callable[..., Any], name: str, options: dict[str, Any], *, what: str) -> None:
    """Raises `RecipeError` for an option that the function or class does not take."""
    known = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = next((option for option in options if option not in known and not takes_any), None)
    if unknown is not None:
        hint = did_you_mean(unknown, known, f"It has: {', '.join(known) or 'none'}.")
        raise RecipeError(f"{what} `{name}` has no option `{unknown}`. {hint}")


def _module_in_file(path: Path, name: str, what: str) -> ModuleType:
    if not path.is_file():
        raise RecipeError(
            f"{what} `{name}`: there is no file {path}. The path is relative to the folder that the run starts in."
        )
    # under a name of its own: `types.py` must not become Python's `types`
    spec = importlib.util.spec_from_file_location(f"{what.lower()}_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{what} `{name}`: {path} is not a Python file. Give a file whose name ends in .py.")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _not_imported(name, str(path), error, what) from error
    return module


def _module(module: str, name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise _not_imported(name, module, error, what) from error
        raise RecipeError(
            f"{what} `{name}`: there is no module `{error.name}`. Install its package, or name a `file.py:NAME`."
        ) from None
    except (Exception, SystemExit) as error:
        raise _not_imported(name, module, error, what) from error


def _not_imported(name: str, where_from: str, error: BaseException, what: str) -> RecipeError:
    """What the user's own code did while it was imported, and where."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}, line {error.lineno}"
    else:
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename][-1]
        where = f"{last.filename}, line {last.lineno}"
    reason = error.msg if isinstance(error, SyntaxError) else error
    return RecipeError(
        f"{what} `{name}`: {where_from} cannot be imported: {type(error).__name__}: {reason} ({where}). Fix it."
    )


def _attribute(module: ModuleType, attribute: str, name: str, what: str) -> Any:
    if hasattr(module, attribute):
        return getattr(module, attribute)
    own = [
        key
        for key, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__
    ]
    hint = did_you_mean(attribute, own, f"It has: {', '.join(own) or 'no function or class'}.")
    raise RecipeError(f"{what} `{name}`: {module.__file__} has no `{attribute}`. {hint}")
