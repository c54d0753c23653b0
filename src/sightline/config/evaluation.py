"""Scoring answers while training, and what follows from the scores."""

from dataclasses import field
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.paths import FileName
from sightline.config.strict import STRICT
from sightline.errors import did_you_mean, shown

TASKS = (
    "scenes", "amber", "amber-discriminative", "amber-generative", "pope", "pope-random", "pope-popular",
    "pope-adversarial", "chair", "vqa", "anls", "chartqa", "choice", "mmhal", "mathvista", "questions",
)  # fmt: skip
"""Benchmarks by name; one of the user's own is `file.py:NAME`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvaluationConfig:
    """Asks the policy the questions of benchmarks while it trains; best weights and an early stop by any figure."""

    tasks: list[str] = field(default_factory=list)
    """Benchmarks as `sightline evaluate --task` names them: `[scenes]`, `[amber, pope]`."""
    data: FileName | None = None
    """Folder of the benchmarks' own files, as in `sightline evaluate --data`."""
    every: Whole = Field(default=100, ge=1, le=10**9)
    """Steps between scorings; there is one before the first step and one after the last, too."""
    limit: Whole | None = Field(default=None, ge=1, le=10**12)
    """Only the first so many items of each task."""
    batch_size: Whole = Field(default=32, ge=1, le=65_536)
    """Answers at a time, on each device."""
    best: str | None = None
    """Figure by which the best weights are kept in OUTPUT/best: `scenes/hal`, `amber-discriminative/existence/f1`, or
    one of held-out rows such as `eval_loss`, or `eval_reward` where completions are sampled."""
    patience: Whole | None = Field(default=None, ge=1, le=10**6)
    """Stop after so many values of `best` in a row that are no better than the best one so far."""
    limits: dict[str, Annotated[Real, Field(ge=-(10**6), le=10**6)]] = field(default_factory=dict)
    """Stop as soon as a figure is worse than this: `{scenes/cover: 90}`. In percent, as in tables."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [name.strip() for name in given.split(",")] if isinstance(given, str) else given

    @field_validator("tasks")
    @classmethod
    def _there_are_such_tasks(cls, given: list[str]) -> list[str]:
        for name in given:
            if name not in TASKS and not (":" in name or "." in name):
                hint = did_you_mean(name, TASKS, f"Known: {', '.join(TASKS)}; one of your own is `file.py:NAME`.")
                raise ValueError(f"`evaluation.tasks`: there is no task `{shown(name)}`. {hint}")
        return given

    @model_validator(mode="after")
    def _what_follows_has_a_figure(self) -> Any:
        if self.patience is not None and self.best is None:
            raise ValueError(
                "`evaluation.patience` waits for a better value of `evaluation.best`, which is not given. Name a "
                "figure there, such as `best: scenes/hal`."
            )
        figures = [name for name in (self.best, *self.limits) if name is not None and not name.startswith("eval_")]
        if figures and not self.tasks:
            raise ValueError(
                f"`evaluation` watches `{shown(figures[0])}`, but scores no task. Give `evaluation.tasks`, such as "
                "`[scenes]`."
            )
        return self
