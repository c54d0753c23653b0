"""Losses of the user's own, named in a recipe by `type: file.py:function`. docs/extending.md has an example of each.

A loss is a pure function. It takes, by name, what it declares of

- pairs: `chosen, rejected, ref_chosen, ref_rejected` (summed log-probs in nats, [pairs]), `chosen_length,
  rejected_length` (tokens, [pairs]), `beta`;
- tokens: `logp` (of each target token of the demonstrations, [tokens]);
- online: `log_ratio` (log π/π_old, [tokens]), `advantage` ([tokens]), `logp`, `beta`, `epsilon`, `epsilon_high`;

and its own options, and returns one loss for each pair or token.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.config.custom import CustomOnlineConfig, CustomPairConfig, CustomTokenConfig
from sightline.errors import RecipeError
from sightline.user_code import check_options, find_user_object

OFFERED = {
    CustomPairConfig: (
        "chosen",
        "rejected",
        "ref_chosen",
        "ref_rejected",
        "chosen_length",
        "rejected_length",
        "beta",
    ),
    CustomTokenConfig: ("logp",),
    CustomOnlineConfig: ("log_ratio", "advantage", "logp", "beta", "epsilon", "epsilon_high"),
}
"""What a loss may ask for, by the rows it is over."""
NEEDED = {
    CustomPairConfig: ("chosen", "rejected"),
    CustomTokenConfig: ("logp",),
    CustomOnlineConfig: ("advantage",),
}
"""What it has to take: a loss without it learns from nothing."""
OF_REFERENCE = ("ref_chosen", "ref_rejected")

CustomConfig = CustomPairConfig | CustomTokenConfig | CustomOnlineConfig


def custom_loss(config: CustomConfig) -> Callable[..., Tensor]:
    """The user's function: called with everything that is offered, it gets what it declares, and its options.

    Raises `RecipeError` where the function is not there, misses what its rows give, or wants what nobody has; and when
    it is called, where what it returns is not one loss for each pair or token.
    """
    function = find_user_object(config.function, what="Objective")
    if not callable(function):
        raise RecipeError(f"Objective `{config.function}` is a {type(function).__name__}, not a function.")
    taken = _parameters(config, function)

    def loss(like: Tensor, **offered: Any) -> Tensor:
        given = {name: offered[name] for name in taken if name in offered}
        return _checked(function(**given, **config.options), like, config.function)

    return loss


def _parameters(config: CustomConfig, function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of what the function takes, options aside."""
    known = inspect.signature(function).parameters
    offered, needed = OFFERED[type(config)], NEEDED[type(config)]
    check_options(function, config.function, config.options, what="Objective")
    taken = tuple(name for name in offered if name in known)
    missing = [name for name in needed if name not in taken]
    if missing:
        raise RecipeError(
            f"Objective `{config.function}` does not take `{missing[0]}`, so that it would learn from nothing. A loss "
            f"of `kind: {_kind(config)}` takes, by name, {', '.join(offered)} and its own options."
        )
    unknown = [
        name
        for name, parameter in known.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in (*offered, *config.options)
    ]
    if unknown:
        raise RecipeError(
            f"Objective `{config.function}` wants `{unknown[0]}`, which neither a loss of `kind: {_kind(config)}` "
            f"({', '.join(offered)}) nor the recipe's `objective` gives. Give it a default, or write `{unknown[0]}` "
            "beside `type`."
        )
    if isinstance(config, CustomPairConfig):
        _check_reference(config, taken)
    return taken


def _check_reference(config: CustomPairConfig, taken: tuple[str, ...]) -> None:
    reads = any(name in taken for name in OF_REFERENCE)
    if reads and not config.uses_reference:
        raise RecipeError(
            f"Objective `{config.function}` takes a reference's log-probs, but the recipe says `uses_reference: "
            "false`, which loads none. Leave it out."
        )
    if config.uses_reference and not reads:
        raise RecipeError(
            f"Objective `{config.function}` takes no reference's log-probs (`ref_chosen`, `ref_rejected`), and a "
            "reference costs a forward. Write `uses_reference: false` beside `type`."
        )


def _kind(config: CustomConfig) -> str:
    return {"custom": "pairs", "custom_tokens": "tokens", "custom_online": "online"}[config.type]


def _checked(found: Any, like: Tensor, name: str) -> Tensor:
    """One loss for each entry of `like`, differentiable. Raises `RecipeError`."""
    if not isinstance(found, Tensor):
        got = type(found).__name__
    elif found.shape != like.shape:
        got = f"a tensor of shape {list(found.shape)}"
    elif torch.is_grad_enabled() and like.requires_grad and not found.requires_grad:
        got = "a tensor without gradient (detached, or computed under no_grad)"
    else:
        return found
    raise RecipeError(
        f"Objective `{name}` returned {got}; expected is one loss for each of its {len(like)} pairs or tokens, a "
        f"tensor of shape {list(like.shape)} through which the gradient flows. Sum and average are Sightline's."
    )
