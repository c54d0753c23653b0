"""Objectives by `type`, each with its own fields: an option that does not belong to an objective is refused."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sightline.config.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SFTConfig:
    """Supervised fine-tuning: negative log-likelihood of the demonstration, averaged over target tokens."""

    type: Literal["sft"] = "sft"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DPOConfig:
    """Direct preference optimisation (arXiv:2305.18290, eq. 7), with cDPO's label smoothing and RPO's SFT term."""

    type: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    """Strength of the pull towards the reference."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of labels taken to be flipped (cDPO)."""
    rpo_alpha: float = Field(0.0, ge=0)
    """Weight of the chosen response's mean negative log-likelihood (RPO, arXiv:2404.19733); 0 leaves it out."""


ObjectiveConfig = Annotated[SFTConfig | DPOConfig, Field(discriminator="type")]
