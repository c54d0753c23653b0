"""Stops or skips what goes wrong in a run: NaN and Inf in a step, divergence in what is logged, SIGTERM."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sightline.config.guard import GuardConfig
from sightline.errors import RunFailed
from sightline.training.distributed.world import Termination

WINDOW = 10
"""Logged lines that an average is taken over."""


class Guard:
    """What a run does about NaN and Inf, divergence and SIGTERM. A `Part` of a checkpoint.

    online: completions are sampled. report: shows the user a sentence, once for all processes.
    stopped_by: what ended training before its last step. steps_left_out: how many had NaN or Inf.
    """

    def __init__(self, config: GuardConfig, *, online: bool, report: Callable[[str], None]) -> None:
        self.config, self.report = config, report
        self.divergence = Divergence(config, online=online)
        self.steps_left_out = 0
        self.stopped_by: BaseException | None = None
        self._termination = Termination()

    def listening(self) -> AbstractContextManager[Any]:
        """Within, SIGTERM is noted instead of ending the process."""
        return self._termination

    @property
    def is_terminated(self) -> bool:
        """Whether this process was sent SIGTERM."""
        return self._termination.received

    def watch(self, figures: dict[str, float], step: int) -> RunFailed | None:
        """Take in a logged line: report divergence, or return it as the reason to stop where the recipe wants that."""
        problem = self.divergence.see(figures)
        if problem is None:
            return None
        if self.config.on_collapse == "stop":
            return RunFailed(f"{problem} A checkpoint of step {step} is saved.")
        self.report(f"Warning, step {step}: {problem}")
        return None

    def leave_out(self, step: int, rows: str, *, is_taken: bool, how_to_continue: str) -> None:
        """Count and report a step with NaN or Inf that is not taken.

        rows: a sentence on those that did it. is_taken: the engine has taken the step already. Raises `RunFailed` then,
        and where the recipe leaves out no more steps.
        """
        if is_taken or self.steps_left_out >= self.config.skip_steps:
            raise RunFailed(
                f"Loss or gradient of step {step} is NaN or Inf. {rows} Fix or remove the rows, lower "
                f"`learning_rate`, or leave such steps out with `--guard.skip-steps 10`. {how_to_continue}"
            )
        self.steps_left_out += 1
        self.report(f"Step {step} is left out: its loss or gradient is NaN or Inf. {rows}")

    def state(self) -> dict[str, Any]:
        """What `load_state` takes."""
        return {"divergence": self.divergence.state(), "steps_left_out": self.steps_left_out}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.divergence.load_state(state["divergence"])
        self.steps_left_out = state["steps_left_out"]


class Divergence:
    """Notices when a policy diverges from its reference, its chosen responses lose their probability, or its sampled
    completions become noise.

    Averages of the last logged lines are compared with those of the first ones (the baseline).
    """

    def __init__(self, config: GuardConfig, *, online: bool) -> None:
        """online: completions are sampled; `kl` is per token then, and entropy that of the policy's own completions."""
        self.config, self.online = config, online
        self.chosen, self.kl, self.entropy = Course(), Course(), Course()
        self.reported: list[str] = []

    def see(self, figures: dict[str, float]) -> str | None:
        """Take in a line of figures; what is wrong, the first time that it is."""
        if self.config.on_collapse == "ignore":
            return None
        watched = (("kl", self.kl), ("entropy", self.entropy)) if self.online else (("logps/chosen", self.chosen),)
        for name, course in watched:
            if name in figures:
                course.add(figures[name])
        for kind, problem in (("kl", self._high_kl()), ("logps", self._low_logps()), ("entropy", self._high_entropy())):
            if problem is not None and kind not in self.reported:
                self.reported.append(kind)
                return problem
        return None

    def _high_kl(self) -> str | None:
        kl = self.kl.now
        if kl is None or kl <= self.config.max_kl:
            return None
        return (
            f"The policy has diverged from its reference: {kl:.1f} nats per token over the last {WINDOW} logged lines "
            f"(`guard.max_kl` is {self.config.max_kl:g}). Lower `learning_rate`, or raise `objective.beta`."
        )

    def _low_logps(self) -> str | None:
        baseline, now = self.chosen.baseline, self.chosen.now
        if baseline is None or now is None or now >= baseline * self.config.max_logp_fall:
            return None
        return (
            f"The chosen responses have lost their probability: log-prob {now:.0f} nats per response, {baseline:.0f} "
            f"at the start (`guard.max_logp_fall` is {self.config.max_logp_fall:g}). The margin may look good "
            "meanwhile. Lower `learning_rate`, raise `objective.beta`, or add an SFT term (`objective.rpo_alpha`)."
        )

    def _high_entropy(self) -> str | None:
        baseline, now = self.entropy.baseline, self.entropy.now
        if baseline is None or now is None or now <= baseline + self.config.max_entropy_rise:
            return None
        return (
            f"The sampled completions become noise: entropy {now:.1f} nats per token over the last {WINDOW} logged "
            f"lines, {baseline:.1f} at the start (`guard.max_entropy_rise` is {self.config.max_entropy_rise:g}). "
            "Lower `learning_rate`, or set `objective.beta` above 0."
        )

    def state(self) -> dict[str, Any]:
        """What `load_state` takes."""
        courses = {name: getattr(self, name).state() for name in ("chosen", "kl", "entropy")}
        return {**courses, "reported": self.reported}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.reported = state["reported"]
        for name in ("chosen", "kl", "entropy"):
            getattr(self, name).load_state(state[name])


class Course:
    """A figure's first and last logged values."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=WINDOW)

    def add(self, value: float) -> None:
        """Take in the next value."""
        if len(self.first) < WINDOW:
            self.first.append(value)
        self.last.append(value)

    @property
    def baseline(self) -> float | None:
        """The average of the first values; None before there are `WINDOW`."""
        return sum(self.first) / WINDOW if len(self.first) == WINDOW else None

    @property
    def now(self) -> float | None:
        """The average of the last values; None before there are `WINDOW`."""
        return sum(self.last) / WINDOW if len(self.last) == WINDOW else None

    def state(self) -> dict[str, list[float]]:
        """What `load_state` takes."""
        return {"first": self.first, "last": list(self.last)}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Put back what `state` gave."""
        self.first = state["first"]
        self.last.extend(state["last"])
