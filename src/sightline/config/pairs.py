"""Preference pairs from a model's own completions: `sightline pairs`, pairs of online steps, rounds of both."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.strict import STRICT, one_or_several


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairMakingConfig:
    """What every way of making pairs has in common."""

    prompts: list[str] = field(default_factory=list)
    """Questions for a bare folder of images, one drawn for each image by `seed`: `Describe this image.`"""
    max_pairs: Whole = Field(default=1, ge=1, le=65_536)
    """Most pairs of one prompt; a completion is in one of them at most."""
    keep_truncated: bool = False
    """Keep completions that were cut off at `sampler.max_completion_length`; otherwise they are left out."""
    batch_size: Whole = Field(default=16, ge=1, le=65_536)
    """Prompts sampled and judged at a time; what a killed command does again is at most as many."""

    _one_or_several = field_validator("prompts", mode="before")(one_or_several)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class JudgedPairsConfig(PairMakingConfig):
    """The best completion of a prompt by the recipe's `rewards` against the worst, the next best against the next
    worst, and so on (RLAIF-V, arXiv:2405.17220, §3.3)."""

    type: Literal["judged"] = "judged"
    margin: Real = Field(default=0.0, ge=0, le=10**6)
    """Least difference of rewards; equal ones are never a pair."""
    length_tolerance: Real | None = Field(default=0.1, ge=0, lt=1)
    """Balance lengths: pairs whose chosen side is the longer one and pairs whose chosen side is the shorter one differ
    in number by at most this share of both; the pairs of smallest margin go. null keeps all."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ContinueBlindConfig(PairMakingConfig):
    """DropoutNTP (MPO, arXiv:2411.10442, §3.2): a completion against its own beginning, continued without the image."""

    type: Literal["continue_blind"] = "continue_blind"
    kept_share: Real = Field(default=0.5, gt=0, lt=1)
    """Share of the completion's words that the rejected side begins with."""
    length_tolerance: Real | None = Field(default=0.1, ge=0, lt=1)
    """As for `judged`; of equal margins the later pairs go."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NoisyImageConfig(PairMakingConfig):
    """POVID (arXiv:2402.11411, §3.2): a completion against one to the image under diffusion noise."""

    type: Literal["noisy_image"] = "noisy_image"
    noise_step: Whole = Field(default=500, ge=1, le=1000)
    """Step of the diffusion, of 1,000; more is noisier."""
    length_tolerance: Real | None = Field(default=0.1, ge=0, lt=1)
    """As for `judged`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OmissionConfig(PairMakingConfig):
    """A completion against itself without one of the objects that the row knows to be in the image."""

    type: Literal["omission"] = "omission"
    column: str = "objects"
    """Column of the objects in the image: a list, or a text with commas."""


PairsConfig = Annotated[
    JudgedPairsConfig | ContinueBlindConfig | NoisyImageConfig | OmissionConfig, Field(discriminator="type")
]


def length_tolerance_of(config: PairMakingConfig) -> float | None:
    """The tolerance; None where lengths are not balanced."""
    assert isinstance(config, JudgedPairsConfig | ContinueBlindConfig | NoisyImageConfig | OmissionConfig)
    return None if isinstance(config, OmissionConfig) else config.length_tolerance
