"""Objectives over sampled completions and their rewards: GRPO and its relatives."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.refusal import Refusal
from sightline.config.strict import STRICT, none_is_a_word

ScaleRewards = Annotated[Literal["group", "batch", "none"], BeforeValidator(none_is_a_word)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineConfig(Refusal):
    """What objectives over rewards have in common. The defaults are TRL's: no KL term, so no reference is loaded."""

    beta: Real = Field(default=0.0, ge=0, le=10**6)
    """Weight of the KL divergence from the reference; 0 loads no reference."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SurrogateConfig(OnlineConfig):
    """Objectives whose KL term stands in the loss, and whose advantages compare the completions of one prompt."""

    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimate of the KL divergence from a sampled token; k3 is GRPO's."""
    kl_ratio_corrected: bool = False
    """Multiply the KL estimate by π/π_old (DeepSeek-V3.2, arXiv:2512.02556), as TRL does."""
    scale_rewards: ScaleRewards = "group"
    """Divide advantages by the standard deviation of the group's rewards, of the whole step's, or not at all."""

    @model_validator(mode="after")
    def _kl_options_need_kl(self) -> Any:
        if self.beta == 0 and (self.kl_ratio_corrected or self.kl_estimator != "k3"):
            raise ValueError(
                "`kl_estimator` and `kl_ratio_corrected` mean nothing with `beta: 0`, which has no KL term. "
                "Leave them out, or give `beta` a value such as 0.04."
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClippedConfig(SurrogateConfig):
    """Objectives with PPO's clipped surrogate."""

    epsilon: Real = Field(default=0.2, gt=0, le=10**6)
    """How far the ratio may fall below 1, and rise above it unless `epsilon_high` says otherwise."""
    epsilon_high: Real | None = Field(default=None, gt=0, le=10**6)
    """How far the ratio may rise above 1; `epsilon` when left out."""
    max_ratio: Real | None = Field(default=None, gt=1, le=10**6)
    """Bound on the ratio where the advantage is negative too (two-sided clipping, arXiv:2505.07291)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRPOConfig(ClippedConfig):
    """GRPO (arXiv:2402.03300): token ratios, averaged over each completion and then over completions."""

    type: Literal["grpo"] = "grpo"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DrGRPOConfig(ClippedConfig):
    """Dr. GRPO (arXiv:2503.20783): no division by the completion's length or the group's standard deviation."""

    type: Literal["dr_grpo"] = "dr_grpo"
    scale_rewards: ScaleRewards = "none"
    """Divide advantages by the standard deviation of the group's rewards, of the whole step's, or not at all."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DAPOConfig(ClippedConfig):
    """DAPO (arXiv:2503.14476): clip-higher, averaged over all tokens of the step."""

    type: Literal["dapo"] = "dapo"
    epsilon_high: Real | None = Field(default=0.28, gt=0, le=10**6)
    """How far the ratio may rise above 1; `epsilon` when null."""
    overlong_buffer: Whole | None = Field(default=None, ge=1, le=10**6)
    """Tokens before the longest completion over which a punishment grows from 0 to −1; null leaves it out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BNPOConfig(ClippedConfig):
    """GRPO averaged over all tokens of the step (TRL's `bnpo`; TRL averages over each micro-batch)."""

    type: Literal["bnpo"] = "bnpo"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GSPOConfig(ClippedConfig):
    """GSPO (arXiv:2507.18071): one ratio per completion, its tokens' geometric mean; GRPO while each is used once."""

    type: Literal["gspo"] = "gspo"
    epsilon: Real = Field(default=3e-4, gt=0, le=10**6)
    """How far the ratio may fall below 1."""
    epsilon_high: Real | None = Field(default=4e-4, gt=0, le=10**6)
    """How far the ratio may rise above 1; `epsilon` when null."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GSPOTokenConfig(GSPOConfig):
    """GSPO-token (arXiv:2507.18071): GSPO's ratio in value, each token's own log-prob in gradient."""

    type: Literal["gspo_token"] = "gspo_token"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CISPOConfig(SurrogateConfig):
    """CISPO (MiniMax-M1, arXiv:2506.13585): truncated ratios as weights; no token loses its gradient."""

    type: Literal["cispo"] = "cispo"
    max_ratio: Real = Field(default=5.0, gt=1, le=10**6)
    """Bound on the weight π/π_old (TRL's `epsilon_high` for CISPO)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SAPOConfig(SurrogateConfig):
    """SAPO (arXiv:2511.20347): a smooth gate in place of clipping."""

    type: Literal["sapo"] = "sapo"
    temperature_positive: Real = Field(default=1.0, gt=0, le=1000)
    """τ where the advantage is positive."""
    temperature_negative: Real = Field(default=1.05, gt=0, le=1000)
    """τ where it is not."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RLOOConfig(OnlineConfig):
    """RLOO (arXiv:2402.14740): whole-completion ratios, advantage over the group's others, KL in the reward."""

    type: Literal["rloo"] = "rloo"
    beta: Real = Field(default=0.05, ge=0, le=10**6)
    """Weight of the KL divergence in the reward; 0 loads no reference."""
    epsilon: Real = Field(default=0.2, gt=0, le=10**6)
    """How far the ratio may fall below 1, and rise above it unless `epsilon_high` says otherwise."""
    epsilon_high: Real | None = Field(default=None, gt=0, le=10**6)
    """How far the ratio may rise above 1; `epsilon` when left out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReinforcePPConfig(OnlineConfig):
    """REINFORCE++ (arXiv:2501.03262): token ratios, advantages whitened over the whole step, KL in the reward."""

    type: Literal["reinforce_pp"] = "reinforce_pp"
    epsilon: Real = Field(default=0.2, gt=0, le=10**6)
    """How far the ratio may fall below 1, and rise above it unless `epsilon_high` says otherwise."""
    epsilon_high: Real | None = Field(default=None, gt=0, le=10**6)
    """How far the ratio may rise above 1; `epsilon` when left out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DistillConfig(OnlineConfig):
    """On-policy distillation (GKD, arXiv:2306.13649): the reverse KL divergence from a teacher at each token of the
    policy's own completions. Needs `reference: {type: teacher, model: …}` and no rewards."""

    type: Literal["distill"] = "distill"
    beta: Real = Field(default=1.0, gt=0, le=10**6)
    """Factor of the divergence."""


OnlineObjectiveConfig = (
    GRPOConfig
    | DrGRPOConfig
    | DAPOConfig
    | BNPOConfig
    | GSPOConfig
    | GSPOTokenConfig
    | CISPOConfig
    | SAPOConfig
    | RLOOConfig
    | ReinforcePPConfig
    | DistillConfig
)
