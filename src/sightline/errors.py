"""Mistakes of the user's: each is one paragraph that says what, where, what was expected, and the fix.

The command line prints the paragraph and exits with 2; from Python it is an ordinary `ValueError`.
"""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "", *, written: str = "`{}`") -> str:
    """`Did you mean …?` with the known word nearest to a misspelt one, or `otherwise` where none is near."""
    close = get_close_matches(word, list(known), n=1)
    return f"Did you mean {written.format(close[0])}?" if close else otherwise


class UserError(ValueError):
    """A mistake in a recipe, a flag, data or a model folder. The message is one paragraph, without traceback."""


class RecipeError(UserError):
    """A recipe or a flag that cannot be run: unknown key, wrong type, or a combination that means nothing."""


class DataError(UserError):
    """A row, image or file of a data set that cannot be used. Names the file, the row and the defect."""


class ModelError(UserError):
    """A model or processor that cannot be loaded or trained: not a VLM, missing files, a wrong processor."""


class RewardError(UserError):
    """A reward that raised, hung, or returned what is no reward. Names the reward and the row, and shows where."""


class SamplerError(UserError):
    """A sampler that cannot answer: a server that is gone, an option it does not know, a model it cannot load."""


class RunFailed(RuntimeError):
    """A run that cannot go on, through no mistake of the recipe's: NaN, collapse, a lost process. Exit code 1."""


class Terminated(SystemExit):
    """A run that was asked to end (SIGTERM) and has saved; the process ends with 143."""

    def __init__(self) -> None:
        super().__init__(143)


class OutOfMemory(UserError):
    """A step does not fit into the device's memory and cannot be cut finer. Says what would make it fit."""


def shown(value: object, longest: int = 120) -> str:
    """A user's text inside a message: on one line, cut where it is long, with control characters written out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}…"
