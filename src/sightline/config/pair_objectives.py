"""Objectives over pairs of a chosen and a rejected response, held to a reference."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real
from sightline.config.refusal import DIVERGENCES, NO_DIVERGENCE, NORMALISED, SORTED, Refusal
from sightline.config.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairConfig(Refusal):
    """What losses of chosen and rejected responses against a reference have in common."""

    refuses: ClassVar[dict[str, str]] = dict.fromkeys(DIVERGENCES, NO_DIVERGENCE)
    beta: Real = Field(default=0.1, gt=0, le=10**6)
    """Strength of the pull towards the reference."""
    ld_alpha: Real = Field(default=1.0, ge=0, le=1)
    """LD-DPO (arXiv:2409.06411): weight of the tokens by which one response is longer than the other; 1 is off."""
    wpo: bool = False
    """WPO (arXiv:2406.11827): weight each pair by how likely the policy is to write it."""
    length_normalised: bool = False
    """Log-probs of an average token instead of the whole response."""
    rpo_alpha: Real = Field(default=0.0, ge=0, le=10**6)
    """Weight of the chosen response's mean negative log-likelihood (RPO, arXiv:2404.19733); 0 leaves it out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MarginConfig(PairConfig):
    """Losses of the difference of two rewards, which any f-divergence may define (f-DPO, arXiv:2309.16240)."""

    refuses: ClassVar[dict[str, str]] = {}
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl"
    """Divergence that holds the policy to its reference."""
    divergence_alpha: Real | None = Field(default=None, ge=-1000, le=1000)
    """α of `divergence: alpha`; 0.5 when left out."""

    @model_validator(mode="after")
    def _alpha_belongs_to_alpha(self) -> Any:
        if self.divergence_alpha is not None and self.divergence != "alpha":
            raise ValueError(
                f"`divergence_alpha: {self.divergence_alpha}` belongs to `divergence: alpha`; with `divergence: "
                f"{self.divergence}` it means nothing. Leave it out, or write `divergence: alpha`."
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DPOConfig(MarginConfig):
    """Direct preference optimisation (arXiv:2305.18290, eq. 7), with cDPO's label smoothing."""

    type: Literal["dpo", "sigmoid"] = "dpo"
    label_smoothing: Real = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped (cDPO)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RobustConfig(MarginConfig):
    """Robust DPO (arXiv:2403.00409): unbiased where a known share of labels is flipped."""

    type: Literal["robust"] = "robust"
    label_smoothing: Real = Field(default=0.1, ge=0, lt=0.5)
    """Share of labels that are flipped."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HingeConfig(MarginConfig):
    """Hinge loss on the margin (SLiC-HF, arXiv:2305.10425, in the form of RSO, arXiv:2309.06657)."""

    type: Literal["hinge"] = "hinge"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IPOConfig(MarginConfig):
    """IPO (arXiv:2310.12036, eq. 17) on log-ratios of an average token; β is the paper's τ."""

    refuses: ClassVar[dict[str, str]] = {"length_normalised": NORMALISED}
    type: Literal["ipo"] = "ipo"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EXOConfig(MarginConfig):
    """EXO for pairs (arXiv:2402.00856, eq. 16): reverse KL to the smoothed preference."""

    type: Literal["exo_pair"] = "exo_pair"
    label_smoothing: Real = Field(default=1e-3, ge=0, lt=0.5)
    """ε, the probability that the smoothed preference gives the rejected response."""

    @model_validator(mode="after")
    def _needs_smoothing(self) -> Any:
        if self.label_smoothing == 0:
            raise ValueError(
                "`exo_pair` needs `label_smoothing` above 0: its loss has log ε in it, which is −∞ without smoothing. "
                "Leave it out for the paper's 1e-3, or take `type: dpo`."
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NCAConfig(PairConfig):
    """NCA for pairs (arXiv:2402.05369): keeps the chosen response's likelihood from falling."""

    type: Literal["nca_pair"] = "nca_pair"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BCOPairConfig(PairConfig):
    """Binary classifier of chosen against rejected (BCO, arXiv:2404.04656), on pairs."""

    type: Literal["bco_pair"] = "bco_pair"
    running_shift: bool = False
    """Subtract the running mean δ of all rewards so far (as the paper and InternVL); off is δ = 0."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SPPOConfig(PairConfig):
    """SPPO with hard labels (arXiv:2405.00675, eq. 4.7 with P = 1 and 0)."""

    type: Literal["sppo_hard"] = "sppo_hard"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AOTConfig(PairConfig):
    """AOT (arXiv:2406.05882, paired): margins of the policy dominate the reference's over the whole step."""

    refuses: ClassVar[dict[str, str]] = {**PairConfig.refuses, "wpo": SORTED}
    type: Literal["aot"] = "aot"
    label_smoothing: Real = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AOTUnpairedConfig(PairConfig):
    """AOT (arXiv:2406.05882, unpaired): rewards of chosen responses dominate those of rejected ones over the step."""

    refuses: ClassVar[dict[str, str]] = {**PairConfig.refuses, "wpo": SORTED}
    type: Literal["aot_unpaired"] = "aot_unpaired"
    label_smoothing: Real = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class APOZeroConfig(PairConfig):
    """APO-zero (arXiv:2408.06266, eq. 7): chosen up and rejected down, for chosen answers better than the model's."""

    type: Literal["apo_zero"] = "apo_zero"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class APODownConfig(PairConfig):
    """APO-down (arXiv:2408.06266, eq. 8): both down, rejected more, for chosen answers worse than the model's."""

    type: Literal["apo_down"] = "apo_down"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DiscoPOPConfig(MarginConfig):
    """DiscoPOP (arXiv:2406.08414, eq. 5): a found blend of logistic and exponential loss."""

    type: Literal["discopop"] = "discopop"
    tau: Real = Field(default=0.05, gt=0, le=1)
    """Temperature of the blend. Below 0.102 the loss first pulls margins down (docs/objectives.md)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SigmoidNormConfig(MarginConfig):
    """Length-normalised DPO (Tülu 3, arXiv:2411.15124): rewards are divided by the response's length."""

    refuses: ClassVar[dict[str, str]] = {"length_normalised": NORMALISED}
    type: Literal["sigmoid_norm"] = "sigmoid_norm"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DPOPConfig(PairConfig):
    """DPO-Positive (Smaug, arXiv:2402.13228): punishes chosen responses less likely than under the reference."""

    type: Literal["dpop"] = "dpop"
    penalty: Real = Field(default=50.0, ge=0, le=10**6)
    """λ, weight of that punishment."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DDPOConfig(MarginConfig):
    """Dense DPO (RLHF-V, arXiv:2312.00849): log-prob of an average token, corrected segments weigh more."""

    refuses: ClassVar[dict[str, str]] = {"length_normalised": NORMALISED}
    type: Literal["ddpo"] = "ddpo"
    corrected_weight: Real = Field(default=5.0, ge=1, le=10**6)
    """γ: weight of the tokens in which chosen and rejected response differ, in rows that mark no segments themselves.
    In a mixture every part sees these weights."""
