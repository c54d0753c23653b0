"""When a run stops by itself: numbers that are none, and a policy that runs away or falls apart."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GuardConfig:
    """What a run does when its numbers go wrong."""

    skip_steps: Whole = Field(default=0, ge=0, le=10**9)
    """Steps with NaN or Inf in loss or gradient that are left out before the run stops; their rows are written down."""
    on_collapse: Literal["warn", "stop", "ignore"] = "warn"
    """What to do when the policy runs away from the reference, its chosen completions lose their probability, or
    sampled ones become noise."""
    max_kl: Real = Field(default=10.0, gt=0, le=10**6)
    """KL divergence from the reference, in nats per token, above which online training with `beta` has diverged."""
    max_entropy_rise: Real = Field(default=3.0, gt=0, le=10**6)
    """Nats per token by which the entropy of sampled completions may rise above the beginning's: with or without
    `beta`."""
    max_logp_fall: Real = Field(default=4.0, gt=1, le=10**6)
    """How many times as low (as negative) as in the beginning the chosen completions' log-prob may become."""
