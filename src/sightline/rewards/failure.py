"""A reward that failed, as a message: its name, the row, what happened, and where in the function."""

import traceback
from traceback import FrameSummary

from sightline.rewards import time_limit
from sightline.rewards.time_limit import TimeUp


class WrongReturn(Exception):
    """A reward returned what is not one number or None for each answer. index: of the answer, where it is one's."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


def explain(name: str, error: BaseException, *, row: str, answer: str | None) -> str:
    """One paragraph, then the stack of the function. answer None: only all rows together fail."""
    if answer is not None:
        where = f"on row {row}, answer {answer[:200]!r}"
    else:
        where = f"on rows {row}" if isinstance(error, WrongReturn) else f"on rows {row}, though on none alone"
    paragraph = f"Reward `{name}` {_what(error)}, {where}.{_hint(error)} Mend the function{_or_timeout(error)}."
    frames = _frames_of_function(error)
    return paragraph if not frames else f"{paragraph}\n{''.join(traceback.format_list(frames)).rstrip()}"


def _what(error: BaseException) -> str:
    match error:
        case TimeUp():
            return f"took too long ({error})"
        case WrongReturn():
            return str(error)
        case _:
            return f"raised {type(error).__name__}: {error}"


def _or_timeout(error: BaseException) -> str:
    return ", or raise its `timeout`" if isinstance(error, TimeUp) else ""


def _hint(error: BaseException) -> str:
    """What usually is behind it when a function written for strings gets messages, or the other way round."""
    text = str(error)
    if isinstance(error, TypeError) and "got 'list'" in text:
        return " It seems to expect strings where the rows are conversations: give it `completions: text`."
    if isinstance(error, TypeError) and "string indices must be integers" in text:
        return " It seems to expect message lists where the rows are strings: give it `completions: messages`."
    return ""


def _frames_of_function(error: BaseException) -> list[FrameSummary]:
    """The stack where it failed, from the function on."""
    if isinstance(error, WrongReturn):
        return []
    frames = list(error.where) if isinstance(error, TimeUp) else list(traceback.extract_tb(error.__traceback__))
    ours = [i for i, frame in enumerate(frames) if frame.filename == time_limit.__file__]
    last = ours[-1] + 1 if ours else 0
    return frames[last:]
