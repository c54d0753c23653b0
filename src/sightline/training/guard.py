"""Watches a run's numbers: NaN and Inf in every step, divergence and collapse in what is logged."""

from collections import deque
from typing import Any

from sightline.config.guard import GuardConfig

WINDOW = 10
"""Logged lines that an average is taken over."""


class Collapse:
    """Tells when a policy has run away from its reference, its chosen answers have lost their probability, or its
    sampled ones have become noise.

    The beginning is the average of the first lines logged; the present is that of the last ones.
    """

    def __init__(self, config: GuardConfig, *, online: bool) -> None:
        """online: answers are sampled; `kl` is that of a token then, and entropy that of the policy's own answers."""
        self.config, self.online = config, online
        self.chosen, self.kl, self.entropy = Course(), Course(), Course()
        self.said: list[str] = []

    def see(self, figures: dict[str, float]) -> str | None:
        """Take in a line of figures; what is wrong, the first time that it is."""
        if self.config.on_collapse == "ignore":
            return None
        watched = (("kl", self.kl), ("entropy", self.entropy)) if self.online else (("logps/chosen", self.chosen),)
        for name, course in watched:
            if name in figures:
                course.add(figures[name])
        for kind, problem in (("kl", self._run_away()), ("logps", self._fallen()), ("entropy", self._noise())):
            if problem is not None and kind not in self.said:
                self.said.append(kind)
                return problem
        return None

    def _run_away(self) -> str | None:
        kl = self.kl.now
        if kl is None or kl <= self.config.max_kl:
            return None
        return (
            f"The policy has run away from its reference: {kl:.1f} nats a token over the last {WINDOW} logged lines "
            f"(`guard.max_kl` is {self.config.max_kl:g}). Lower `learning_rate`, or raise `objective.beta`."
        )

    def _fallen(self) -> str | None:
        start, now = self.chosen.beginning, self.chosen.now
        if start is None or now is None or now >= start * self.config.max_logp_fall:
            return None
        return (
            f"The chosen answers have lost their probability: log-prob {now:.0f} nats an answer, {start:.0f} in the "
            f"beginning (`guard.max_logp_fall` is {self.config.max_logp_fall:g}). The margin may look good meanwhile. "
            "Lower `learning_rate`, raise `objective.beta`, or add an SFT term (`objective.rpo_alpha`)."
        )

    def _noise(self) -> str | None:
        start, now = self.entropy.beginning, self.entropy.now
        if start is None or now is None or now <= start + self.config.max_entropy_rise:
            return None
        return (
            f"The sampled answers become noise: entropy {now:.1f} nats a token over the last {WINDOW} logged lines, "
            f"{start:.1f} in the beginning (`guard.max_entropy_rise` is {self.config.max_entropy_rise:g}). Lower "
            "`learning_rate`, or set `objective.beta` above 0."
        )

    def state(self) -> dict[str, Any]:
        """To go on from."""
        courses = {name: getattr(self, name).state() for name in ("chosen", "kl", "entropy")}
        return {**courses, "said": self.said}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.said = state["said"]
        for name in ("chosen", "kl", "entropy"):
            getattr(self, name).load_state(state[name])


class Course:
    """A figure's first and last logged values."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=WINDOW)

    def add(self, value: float) -> None:
        """Take in the next."""
        if len(self.first) < WINDOW:
            self.first.append(value)
        self.last.append(value)

    @property
    def beginning(self) -> float | None:
        """The average of the first; None before they are all there."""
        return sum(self.first) / WINDOW if len(self.first) == WINDOW else None

    @property
    def now(self) -> float | None:
        """The average of the last; None before there are so many."""
        return sum(self.last) / WINDOW if len(self.last) == WINDOW else None

    def state(self) -> dict[str, list[float]]:
        """To go on from."""
        return {"first": self.first, "last": list(self.last)}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Put back what `state` gave."""
        self.first = state["first"]
        self.last.extend(state["last"])
