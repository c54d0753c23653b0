"""All rewards of a run: calls them, checks what they return, adds it up.

A reward is called once over all completions of a step, by TRL's convention: `completions`, `prompts`, `completion_ids`,
every column of the rows, `trainer_state`, `log_extra(name, values)` and `log_metric(name, value)`, all by keyword; a
function that takes no `**kwargs` gets what its signature names. A column of the rows may have any name but those that
the run itself gives (`GIVEN`); an option of the recipe wins over a column of its name.
"""

import inspect
import math
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from traceback import FrameSummary
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.errors import RewardError, UserError, did_you_mean
from sightline.rewards import time_limit
from sightline.rewards.completions import Completions
from sightline.rewards.time_limit import BackgroundCall, TimeUp, call_within, is_async
from sightline.scoring.remembered import Remembered

RewardFunction = Callable[..., Any]

GIVEN = ("images", "prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""What every reward can have besides the rows' columns, none of which may be called so."""

TABLE = ("step", "row", "prompt", "completion", "reward", "advantage", "image")
"""Columns of the tables of completions besides `rewards/NAME`; what rewards log with `log_extra` stands beside them."""

LOGGED = (
    "step", "epoch", "event", "layout", "reason", "loss", "grad_norm", "learning_rate", "num_tokens", "token_limit",
    "entropy", "kl", "cispo_clip_ratio", "reward", "reward_std", "frac_reward_zero_std", "rows_skipped",
    "rows_truncated",
)  # fmt: skip
"""Figures of online runs in metrics.jsonl; what rewards log with `log_metric` stands beside them."""
LOGGED_UNDER = (
    "rewards/",
    "pairs/",
    "completions/",
    "clip_ratio/",
    "sampling/",
    "seconds/",
    "memory/",
    "loss/",
    "eval_",
    "train_",
)
"""How the others begin."""

CONVENTION = "Rewards are called as `reward(completions=…, prompts=…, **columns)`."


@runtime_checkable
class Prepares(Protocol):
    """A reward that knows beforehand what it needs."""

    def prepare(self, columns: Sequence[str]) -> None:
        """Raises `UserError` for a column, file, model or server that is missing."""
        ...


@runtime_checkable
class AsksPolicy(Protocol):
    """A reward that asks the policy itself."""

    def attach(self, policy: Any, processor: Any) -> None:
        """Ask this model, with whatever weights it has at each call."""
        ...


@runtime_checkable
class AsksServer(Protocol):
    """A reward whose server need not be asked the same twice."""

    def remember(self, remembered: Remembered) -> None:
        """Take replies from there, and keep new ones there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reward:
    """A reward function and how it counts.

    name: in metrics and messages. weight: in the sum of rewards; 0: logged only. timeout: seconds a call may take.
    form: how it wants completions.
    """

    name: str
    function: RewardFunction
    weight: float = 1.0
    timeout: float = 120.0
    form: Literal["as_data", "text", "messages"] = "as_data"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What the rewards made of some completions.

    values: each reward of each completion, NaN where it does not apply. total: the weighted sum over those that do; NaN
    where none of a weight other than 0 does. columns and metrics: what rewards logged by `log_extra` and `log_metric`.
    """

    values: Float[Tensor, "responses rewards"]
    total: Float[Tensor, " responses"]
    columns: dict[str, list[Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class RewardSet:
    """The rewards of a run."""

    def __init__(self, rewards: Sequence[Reward]) -> None:
        names = [reward.name for reward in rewards]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RewardError(f"Two rewards are named `{twice}`, so their metrics could not be told apart. Rename one.")
        if rewards and not any(reward.weight for reward in rewards):
            raise RewardError(
                "Every reward has weight 0, so that nothing would be learned: weight 0 only logs a reward. Give one a "
                "weight."
            )
        self.rewards = tuple(rewards)

    @property
    def names(self) -> list[str]:
        return [reward.name for reward in self.rewards]

    @property
    def weights(self) -> dict[str, float]:
        """Name → factor in the sum; 0 is for logging alone."""
        return {reward.name: reward.weight for reward in self.rewards}

    def prepare(self, columns: Sequence[str]) -> None:
        """Before the first completions: raises `UserError` for what a reward will lack. columns: that the rows have."""
        refuse_reserved(columns, where="the rows")
        for reward in self.rewards:
            refuse_missing(reward, [*columns, *GIVEN], where="the rows", columns=columns)
            if isinstance(reward.function, Prepares):
                reward.function.prepare(columns)

    def attach(self, policy: Any, processor: Any) -> None:
        """Give the policy to the rewards that ask it."""
        for reward in self.rewards:
            if isinstance(reward.function, AsksPolicy):
                reward.function.attach(policy, processor)

    def remember(self, remembered: Remembered) -> None:
        """Have the rewards that ask a server keep its replies, and ask nothing twice."""
        for reward in self.rewards:
            if isinstance(reward.function, AsksServer):
                reward.function.remember(remembered)

    def score(self, completions: Completions, trainer_state: Any = None) -> Scores:
        """Every reward of every completion. Asynchronous rewards run beside the others.

        Raises `RewardError` for a reward that raises, takes too long, or returns anything but one number or None an
        completion; its message names reward and row and shows where. Raises it, too, for a column that is called like
        what the run gives, and for what is logged under the name of a column of the table.
        """
        refuse_reserved(
            completions.columns, where=f"{completions.rows[0]} or another row of its step" if completions.rows else ""
        )
        columns: dict[str, list[Any]] = {}
        metrics: dict[str, float] = {}

        def log_extra(name: str, values: list[Any]) -> None:
            refuse_column(name)
            columns[name] = values

        def log_metric(name: str, value: Any) -> None:
            refuse_metric(name)
            try:
                metrics[name] = float(value)
            except (TypeError, ValueError):
                raise RewardError(
                    f"A reward logs {value!r:.60} as `{name}` with `log_metric`; a number is expected."
                ) from None

        given = {"trainer_state": trainer_state, "log_extra": log_extra, "log_metric": log_metric}
        started = {
            r.name: BackgroundCall(r.timeout, r.function, **arguments(r, completions, given))
            for r in self.rewards
            if is_async(r.function)
        }
        values = []
        for reward in self.rewards:
            try:
                if reward.name in started:
                    returned = started[reward.name].result()
                else:
                    returned = call_within(reward.timeout, reward.function, **arguments(reward, completions, given))
                values.append(checked(returned, len(completions)))
            except (Exception, TimeUp) as error:
                raise failure(reward, completions, given, error) from error
        table = torch.tensor(values, dtype=torch.float32).T.reshape(len(completions), len(self.rewards))
        weights = torch.tensor(list(self.weights.values()))
        # what is only logged judges nothing: a completion that no other reward judges has none
        judged = (~table.isnan() & (weights != 0)).any(1)
        total = (table.nan_to_num() * weights).sum(1).masked_fill(~judged, math.nan)
        return Scores(values=table, total=total, columns=columns, metrics=metrics)


def checked(returned: Any, count: int) -> list[float]:
    """One float a completion, None as NaN. Raises `WrongReturn`."""
    if not isinstance(returned, list | tuple | Tensor) and not hasattr(returned, "__array__"):
        raise WrongReturn(
            f"returned a {type(returned).__name__}; a list of one number or None a completion is expected"
        )
    if len(returned) != count:
        raise WrongReturn(f"returned {len(returned)} rewards for {count} completions")
    values = []
    for index, value in enumerate(returned):
        try:
            number = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            raise WrongReturn(f"returned {value!r:.60}; a number or None is expected", index) from None
        if value is not None and not math.isfinite(number):
            raise WrongReturn(f"returned {number}; give None where the reward does not apply", index)
        values.append(number)
    return values


def arguments(reward: Reward, completions: Completions, given: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call. Raises `RewardError` when the rows lack a column that the function needs."""
    offered = {
        **completions.columns,
        "images": completions.images,
        "prompts": completions.prompts,
        "completions": completions.in_form(reward.form),
        "completion_ids": completions.token_ids,
        **given,
    }
    if isinstance(reward.function, partial):
        # an option of the recipe wins over a column of its name
        offered = {name: value for name, value in offered.items() if name not in reward.function.keywords}
    refuse_missing(
        reward, offered, where=f"{completions.rows[0]} and the others of its step", columns=completions.columns
    )
    parameters = inspect.signature(reward.function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return offered
    taken = {p.name for p in parameters}
    return {name: value for name, value in offered.items() if name in taken}


def refuse_reserved(columns: Collection[str], *, where: str) -> None:
    """Raises `RewardError` for a column of the rows that is called like an argument which the run itself gives."""
    taken = next((name for name in columns if name in GIVEN), None)
    if taken is not None:
        raise RewardError(
            f"A column of {where} is called `{taken}`, and so is what every reward gets from the run: a reward could "
            f"have only one of them. Rename the column, in the recipe with `data.columns: {{own_{taken}: {taken}}}`."
        )


def refuse_column(name: str) -> None:
    """Raises `RewardError` for a name under which the table of completions has something already."""
    if name in TABLE or name.startswith("rewards/"):
        raise RewardError(
            f"A reward logs `{name}` with `log_extra`, and the table of completions has a column of that name. Log it "
            "under another one."
        )


def refuse_metric(name: str) -> None:
    """Raises `RewardError` for a name under which the run logs a figure of its own."""
    if is_logged_by_runs(name):
        raise RewardError(
            f"A reward logs `{name}` with `log_metric`, and the run itself logs figures by that name: one would "
            f"overwrite the other. Log it under another one, such as `own/{name}`."
        )


def is_logged_by_runs(name: str) -> bool:
    """Whether online runs have a figure of that name, or may have."""
    return name in LOGGED or name.startswith(LOGGED_UNDER)


def refuse_missing(reward: Reward, offered: Collection[str], *, where: str, columns: Collection[str]) -> None:
    """Raises `RewardError` when the function needs an argument that is not offered."""
    parameters = inspect.signature(reward.function).parameters.values()
    if not parameters:
        raise RewardError(f"Reward `{reward.name}` takes no arguments. {CONVENTION}")
    bare = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if bare:
        raise RewardError(
            f"Reward `{reward.name}` takes `{bare[0]}` by its place, and rewards are called by keyword. {CONVENTION}"
        )
    named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    missing = next((p.name for p in named if p.default is p.empty and p.name not in offered), None)
    if missing is not None:
        near = did_you_mean(missing, offered)
        hint = f"{near} {CONVENTION}" if near else "Rename a column, or give the argument a default."
        raise RewardError(
            f"Reward `{reward.name}` needs `{missing}`, which {where} do not have. Their columns: "
            f"{', '.join(columns) or 'none'}. {hint}"
        )


def failure(reward: Reward, completions: Completions, given: dict[str, Any], error: BaseException) -> UserError:
    """The error as one of the user's, with the first row that causes it by itself.

    The function is called again, one completion at a time, until one fails; the run stops anyway.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, WrongReturn) and error.index is not None:
        return RewardError(
            explain(reward.name, error, row=completions.rows[error.index], completion=completions.texts[error.index])
        )
    for i in range(len(completions)):
        alone = completions.keep([i])
        try:
            checked(call_within(reward.timeout, reward.function, **arguments(reward, alone, given)), 1)
        except (Exception, TimeUp) as found:
            if type(found) is type(error):
                return RewardError(explain(reward.name, error, row=alone.rows[0], completion=alone.texts[0]))
    rows = list(dict.fromkeys(completions.rows))
    return RewardError(explain(reward.name, error, row=f"{rows[0]} … {rows[-1]}", completion=None))


class WrongReturn(Exception):
    """A reward returned what is not one number or None for each completion. index: of the completion, where it is
    one's."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


def explain(name: str, error: BaseException, *, row: str, completion: str | None) -> str:
    """A reward that failed: its name, the row, what happened, then the stack of the function.

    completion None: only all rows together fail.
    """
    if completion is not None:
        where = f"on row {row}, completion {completion[:200]!r}"
    else:
        where = f"on rows {row}" if isinstance(error, WrongReturn) else f"on rows {row}, though on none alone"
    paragraph = f"Reward `{name}` {_what(error)}, {where}.{_hint(error)} Fix the function{_or_timeout(error)}."
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
