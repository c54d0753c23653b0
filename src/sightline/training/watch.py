"""What follows from a run's figures: which were the best so far, and whether to stop. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sightline.config.evaluation import EvaluationConfig

Better = Literal["higher", "lower"]


@dataclass
class Watch:
    """Judges figures as they come; its fields are all that a checkpoint has to keep.

    best, best_step: of the watched figure so far. waited: values since then that were no better. stopped: the sentence
    that says why the run stopped.
    """

    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    stopped: str | None = None
    seen: list[int] = field(default_factory=list)

    def judge(
        self, config: EvaluationConfig, better: Mapping[str, Better], step: int, figures: Mapping[str, float]
    ) -> bool:
        """Take in the figures of a step; returns whether the watched one is the best so far.

        better: which way each watched figure is better. Figures that are not watched are let be.
        """
        self.seen.append(step)
        for name, limit in config.limits.items():
            if name in figures and is_better(limit, figures[name], better[name]):
                side = "below" if better[name] == "higher" else "above"
                self.stopped = f"{name} is {figures[name]:.4g}, {side} its limit of {limit:g}"
        if config.best is None or config.best not in figures:
            return False
        value = figures[config.best]
        if self.best is None or is_better(value, self.best, better[config.best]):
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        if config.patience is not None and self.waited >= config.patience and self.stopped is None:
            self.stopped = f"{config.best} was {self.best:.4g} at step {self.best_step} and has not been better since"
        return False

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def is_better(a: float, b: float, better: Better) -> bool:
    """Whether a is strictly better than b; what is no number is never better."""
    return a > b if better == "higher" else a < b
