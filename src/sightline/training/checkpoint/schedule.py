"""The schedule of a checkpoint, and what holds of optimizer and schedule where the recipe has changed since.

Schedules are functions of the step, so that a checkpoint only has to say which step it is; one that follows the
held-out loss has a state of its own.
"""

from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sightline.training.checkpoint.files import SCHEDULER, load_state, save_state

FROM_THE_RECIPE = ("initial_lr", "weight_decay", "betas", "eps")
"""What a recipe says of an optimizer; everything else in its groups of weights is its own state."""


def save_schedule(scheduler: Any, checkpoint: Path) -> None:
    """Write where a schedule stands."""
    save_state(scheduler.state_dict(), checkpoint / SCHEDULER)


def load_schedule(scheduler: Any, checkpoint: Path, *, step: int) -> None:
    """Put back what `save_schedule` wrote. Raises `ValueError` for the state of something else, or of another step."""
    state = load_state(checkpoint / SCHEDULER)
    if state.keys() != scheduler.state_dict().keys():  # torch takes any
        raise ValueError(f"{SCHEDULER} is not the state of a {type(scheduler).__name__}")
    if isinstance(scheduler, LambdaLR) and state["last_epoch"] != step:
        raise ValueError(f"{SCHEDULER} is of step {state['last_epoch']}, the checkpoint of step {step}")
    scheduler.load_state_dict(state)


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What the recipe says of each group of weights."""
    return [{name: group[name] for name in FROM_THE_RECIPE if name in group} for group in optimizer.param_groups]


def apply_settings(asked: list[dict[str, Any]], optimizer: Optimizer, scheduler: Any) -> None:
    """Have a loaded optimizer and its schedule go on with what `settings_of` gave before they were loaded.

    Schedules are functions of the step: the learning rate is what it would be, had the settings been so from the
    start. One that follows the held-out loss keeps the learning rate that it has come to.
    """
    for group, settings in zip(optimizer.param_groups, asked, strict=True):
        group.update(settings)
    if not isinstance(scheduler, LambdaLR):
        return
    scheduler.base_lrs = [settings["initial_lr"] for settings in asked]
    factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
    rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
