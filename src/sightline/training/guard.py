"""Watches a run's numbers: NaN and Inf in every step, divergence and collapse in what is logged."""

from collections import deque
from typing import Any

from sightline.config.guard import GuardConfig

WINDOW = 10
"""Logged lines that an average is taken over."""


class Collapse:
    """Tells when a policy has run away from its reference, or its chosen answers have lost their probability.

    The beginning is the average of the first lines logged; the present is that of the last ones.
    """

    def __init__(self, config: GuardConfig, *, kl_is_per_token: bool) -> None:
        self.config, self.kl_is_per_token = config, kl_is_per_token
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=WINDOW)
        self.last_kl: deque[float] = deque(maxlen=WINDOW)
        self.said: list[str] = []

    def see(self, figures: dict[str, float]) -> str | None:
        """Take in a line of figures; what is wrong, the first time that it is."""
        if self.config.on_collapse == "ignore":
            return None
        if self.kl_is_per_token and "kl" in figures:
            self.last_kl.append(figures["kl"])
        chosen = figures.get("logps/chosen")
        if chosen is not None:
            if len(self.first) < WINDOW:
                self.first.append(chosen)
            self.last.append(chosen)
        for kind, problem in (("kl", self._run_away()), ("logps", self._fallen())):
            if problem is not None and kind not in self.said:
                self.said.append(kind)
                return problem
        return None

    def _run_away(self) -> str | None:
        if len(self.last_kl) < WINDOW:
            return None
        kl = sum(self.last_kl) / WINDOW
        if kl <= self.config.max_kl:
            return None
        return (
            f"The policy has run away from its reference: {kl:.1f} nats a token over the last {WINDOW} logged lines "
            f"(`guard.max_kl` is {self.config.max_kl:g}). Lower `learning_rate`, or raise `objective.beta`."
        )

    def _fallen(self) -> str | None:
        if len(self.last) < WINDOW or len(self.first) < WINDOW:
            return None
        start, now = sum(self.first) / WINDOW, sum(self.last) / WINDOW
        if now >= start * self.config.max_logp_fall:
            return None
        return (
            f"The chosen answers have lost their probability: log-prob {now:.0f} nats an answer, {start:.0f} in the "
            f"beginning (`guard.max_logp_fall` is {self.config.max_logp_fall:g}). The margin may look good meanwhile. "
            "Lower `learning_rate`, raise `objective.beta`, or add an SFT term (`objective.rpo_alpha`)."
        )

    def state(self) -> dict[str, Any]:
        """To go on from."""
        return {"first": self.first, "last": list(self.last), "last_kl": list(self.last_kl), "said": self.said}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.first, self.said = state["first"], state["said"]
        self.last.extend(state["last"])
        self.last_kl.extend(state["last_kl"])
