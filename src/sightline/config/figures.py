"""Figures of held-out rows that a run can watch (`evaluation.best`, `limits`): which of them an objective gives."""

import re
from collections.abc import Mapping
from typing import Literal

from sightline.config.custom import CustomTokenConfig
from sightline.config.evaluation import EvaluationConfig
from sightline.config.objective import MixConfig, MPOConfig, ObjectiveConfig
from sightline.config.online_objectives import OnlineConfig
from sightline.config.other_objectives import DFTConfig, SFTConfig, UnpairedConfig
from sightline.errors import did_you_mean

Better = Literal["higher", "lower"]
LIKELIHOOD: dict[str, Better] = {"eval_loss": "lower", "eval_mean_token_accuracy": "higher"}
PREFERENCE: dict[str, Better] = {"eval_rewards/accuracies": "higher", "eval_rewards/margins": "higher"}
OF_REWARD = re.compile(r"eval_rewards/(.+)/mean")


def held_out_figures(objective: ObjectiveConfig, *, samples: bool = False) -> dict[str, Better]:
    """The figures that have a better side, and which. Of single rewards see `OF_REWARD`.

    samples: whether steps of a pair objective sample their own completions.
    """
    if samples or isinstance(objective, OnlineConfig):
        return {"eval_reward": "higher"}
    if isinstance(objective, MPOConfig):
        objective = objective.as_mix()
    mixed = objective.read_parts().values() if isinstance(objective, MixConfig) else []
    parts = [part.config for part in mixed] or [objective]
    alone = (SFTConfig, DFTConfig, CustomTokenConfig, UnpairedConfig)
    return {**LIKELIHOOD, **({} if all(isinstance(part, alone) for part in parts) else PREFERENCE)}


def better_side(
    name: str, objective: ObjectiveConfig, rewards: Mapping[str, float] | None = None, *, samples: bool = False
) -> Better:
    """Which way a figure `eval_…` is better. rewards: name → weight, where they are known; below 0 lower is better.

    samples: as `held_out_figures` has it. Raises `ValueError` for one that the objective does not give.
    """
    samples = samples or isinstance(objective, OnlineConfig)
    known = held_out_figures(objective, samples=samples)
    of_reward = OF_REWARD.fullmatch(name) if samples else None
    if of_reward is not None and rewards is None:
        return "higher"  # asked again when the rewards are built
    if rewards is not None and samples:
        known |= {f"eval_rewards/{one}/mean": "lower" if weight < 0 else "higher" for one, weight in rewards.items()}
    if name not in known:
        others = samples and rewards is None
        hint = did_you_mean(name, known)
        raise ValueError(
            f"`evaluation` watches `{name}`, which `objective.type: {objective.type}` does not give, or of which it is "
            f"not known which way is better. It can watch {', '.join(known)}"
            f"{', and of each reward `eval_rewards/NAME/mean`' if others else ''}.{' ' + hint if hint else ''}"
        )
    return known[name]


def refuse_figures(objective: ObjectiveConfig, evaluation: EvaluationConfig, *, samples: bool) -> None:
    """Raises `ValueError` for a figure of held-out rows that the objective does not give."""
    for name in (evaluation.best, *evaluation.limits):
        if name is not None and name.startswith("eval_"):
            better_side(name, objective, samples=samples)
