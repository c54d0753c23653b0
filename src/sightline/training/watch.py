"""What follows from a run's figures: which were the best so far, and whether to stop. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sightline.config.evaluation import EvaluationConfig

Better = Literal["higher", "lower"]


@dataclass
class Watch:
    """Judges figures as they come; its fields are all that a checkpoint has to keep.

    figure: the watched one. best, best_step: its best value so far. waited: values since then that were no better.
    limited: the last value of each figure that has a limit. stopped: the sentence that says why the run stopped.
    """

    figure: str | None = None
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    limited: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    seen: list[int] = field(default_factory=list)

    def judge(
        self, config: EvaluationConfig, better: Mapping[str, Better], step: int, figures: Mapping[str, float]
    ) -> bool:
        """Take in the figures of a step; returns whether the watched one is the best so far.

        better: which way each watched figure is better. Figures that are not watched are let be.
        """
        self.seen.append(step)
        self.limited |= {name: figures[name] for name in config.limits if name in figures}
        is_best = False
        if config.best is not None and config.best in figures:
            value, self.figure = figures[config.best], config.best
            is_best = self.best is None or is_better(value, self.best, better[config.best])
            if is_best:
                self.best, self.best_step, self.waited = value, step, 0
            else:
                self.waited += 1
        self.stopped = self.reason_to_stop(config, better)
        return is_best

    def go_on(self, config: EvaluationConfig, better: Mapping[str, Better]) -> None:
        """Judge what a checkpoint remembers by these settings, which may be others than those it was judged by."""
        if self.figure != config.best:
            self.figure, self.best, self.best_step, self.waited = config.best, None, None, 0
        self.stopped = self.reason_to_stop(config, better)

    def reason_to_stop(self, config: EvaluationConfig, better: Mapping[str, Better]) -> str | None:
        """Why these settings stop a run that stands here, as a sentence; None where they let it go on."""
        for name, limit in config.limits.items():
            if name in self.limited and is_better(limit, self.limited[name], better[name]):
                side = "below" if better[name] == "higher" else "above"
                return f"{name} is {self.limited[name]:.4g}, {side} its limit of {limit:g}"
        if config.patience is not None and self.waited >= config.patience:
            return f"{config.best} was {self.best:.4g} at step {self.best_step} and has not been better since"
        return None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def stop_rules(config: EvaluationConfig) -> dict[str, Any]:
    """The settings that an early stop follows from."""
    return {"best": config.best, "patience": config.patience, "limits": config.limits}


def is_better(a: float, b: float, better: Better) -> bool:
    """Whether a is strictly better than b; what is no number is never better."""
    return a > b if better == "higher" else a < b
