"""Objectives over demonstrations, without a reference, over corrupted images, or over single labelled responses."""

from typing import ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real
from sightline.config.refusal import ANOTHER_IMAGE, DIVERGENCES, NO_DIVERGENCE, NO_RATIO, NORMALISED, Refusal
from sightline.config.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SFTConfig(Refusal):
    """Supervised fine-tuning: negative log-likelihood of the demonstration, averaged over target tokens."""

    needs_reference: ClassVar[bool] = False
    type: Literal["sft"] = "sft"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DFTConfig(Refusal):
    """Dynamic fine-tuning (arXiv:2508.05629): each token's likelihood loss is weighted by its own probability."""

    needs_reference: ClassVar[bool] = False
    type: Literal["dft"] = "dft"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MDPOConfig(Refusal):
    """mDPO (arXiv:2406.11839): DPO, plus the same answer on image and corrupted image, plus an anchor."""

    refuses: ClassVar[dict[str, str]] = {
        **dict.fromkeys(DIVERGENCES, NO_DIVERGENCE),
        **dict.fromkeys(("wpo", "ld_alpha"), ANOTHER_IMAGE),
    }
    type: Literal["mdpo"] = "mdpo"
    beta: Real = Field(default=0.1, gt=0, le=10**6)
    """Strength of the pull towards the reference."""
    image_weight: Real = Field(default=1.0, ge=0, le=10**6)
    """Weight of the image-conditional term."""
    anchor_weight: Real = Field(default=1.0, ge=0, le=10**6)
    """Weight of the anchor."""
    anchor: Real = Field(default=0.0, ge=-(10**6), le=10**6)
    """δ, the reward that the chosen response is to exceed."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SimPOConfig(Refusal):
    """SimPO (arXiv:2405.14734, eq. 6): no reference, log-prob of an average token, a target margin."""

    needs_reference: ClassVar[bool] = False
    refuses: ClassVar[dict[str, str]] = {
        **dict.fromkeys((*DIVERGENCES, "ld_alpha"), NO_RATIO),
        "length_normalised": NORMALISED,
    }
    type: Literal["simpo"] = "simpo"
    beta: Real = Field(default=2.0, gt=0, le=10**6)
    """Scale of the reward."""
    gamma: Real = Field(default=1.0, ge=0, le=10**6)
    """Margin by which the chosen reward is to exceed the rejected one."""
    label_smoothing: Real = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped."""
    wpo: bool = False
    """WPO (arXiv:2406.11827): weight each pair by how likely the policy is to write it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ORPOConfig(Refusal):
    """ORPO (arXiv:2403.07691, eq. 6): likelihood of the chosen response plus β times the log odds ratio."""

    needs_reference: ClassVar[bool] = False
    refuses: ClassVar[dict[str, str]] = {
        **dict.fromkeys((*DIVERGENCES, "ld_alpha"), NO_RATIO),
        "length_normalised": NORMALISED,
    }
    type: Literal["orpo"] = "orpo"
    beta: Real = Field(default=0.1, gt=0, le=10**6)
    """Weight of the odds-ratio term; the paper's λ."""
    wpo: bool = False
    """WPO (arXiv:2406.11827): weight each pair by how likely the policy is to write it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CPOConfig(Refusal):
    """CPO (arXiv:2401.08417): DPO against a uniform reference, plus likelihood of the chosen response."""

    needs_reference: ClassVar[bool] = False
    refuses: ClassVar[dict[str, str]] = dict.fromkeys((*DIVERGENCES, "ld_alpha"), NO_RATIO)
    type: Literal["cpo"] = "cpo"
    beta: Real = Field(default=0.1, gt=0, le=10**6)
    """Scale of the reward."""
    label_smoothing: Real = Field(default=0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped."""
    sft_weight: Real = Field(default=1.0, ge=0, le=10**6)
    """Weight of the chosen responses' negative log-likelihood a token."""
    wpo: bool = False
    """WPO (arXiv:2406.11827): weight each pair by how likely the policy is to write it."""


NO_PAIR = (
    "`{option}` is invalid with `{type}`, which judges every response by itself: there is no pair to apply it to. "
    "Leave `{option}` out."
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UnpairedConfig(Refusal):
    """What losses of single responses, labelled desirable or not, have in common. On pairs: chosen and rejected."""

    refuses: ClassVar[dict[str, str]] = {
        **dict.fromkeys(DIVERGENCES, NO_DIVERGENCE),
        **dict.fromkeys(("wpo", "ld_alpha"), NO_PAIR),
    }
    beta: Real = Field(default=0.1, gt=0, le=10**6)
    """Strength of the pull towards the reference."""
    desirable_weight: Real = Field(default=1.0, ge=0, le=10**6)
    """Weight of desirable responses."""
    undesirable_weight: Real = Field(default=1.0, ge=0, le=10**6)
    """Weight of undesirable responses."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KTOConfig(UnpairedConfig):
    """KTO (arXiv:2402.01306): value against the KL divergence estimated on mismatched answers of the step."""

    type: Literal["kto"] = "kto"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BCOConfig(UnpairedConfig):
    """BCO (arXiv:2404.04656): a binary classifier of desirable against undesirable, with the running shift."""

    type: Literal["bco"] = "bco"
    running_shift: bool = True
    """Subtract δ, halfway between the mean rewards of the two classes over all steps so far; off is δ = 0."""
