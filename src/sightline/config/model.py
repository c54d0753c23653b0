"""What is trained: the model, its adapter, and the reference it is held to."""

import re
from dataclasses import field
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole
from sightline.config.paths import FileName, OutputName
from sightline.config.strict import STRICT, Options, none_is_a_word, one_or_several
from sightline.errors import shown


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """The vision-language model and its processor."""

    name: FileName = ""
    """Hub id or folder of a vision-language model; `embedded` is the small one inside the package."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of frozen weights; auto: bfloat16 on a GPU that has it, else float32. Trained weights are float32."""
    attn_implementation: Literal["auto", "sdpa", "eager", "flex_attention"] = "auto"
    """Attention kernel; auto takes what the family is exact with."""
    family: str | None = None
    """A family of your own for this model type, `file.py:Class` (docs/extending.md); Sightline's own when left out."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off, and refused by name when a model needs it."""
    freeze_vision: bool = True
    """Keep the vision tower as it is; its features are then computed once for policy and reference."""
    freeze_projector: bool = True
    """Keep the projector between tower and language model as it is."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Store frozen linear layers in 4 or 8 bits (bitsandbytes) and compute in bfloat16; needs `lora`."""
    double_quantize: bool = True
    """With nf4: store the scales in 8 bits too (arXiv:2305.14314, §3), which saves 0.37 bits a weight."""
    quantize_parts: list[Literal["language", "projector", "vision"]] = field(default_factory=lambda: ["language"])
    """Whose layers; vision tower, projector and output head stay as they are unless named. The head cannot be."""
    random_weights: bool = False
    """Start from random weights (drawn by `seed`) of the architecture in the model's config.json."""
    processor: Options = field(default_factory=dict)
    """Options of the processor (`do_image_splitting`, `max_pixels`, `longest_edge`, …); saved with the model."""

    _none_is_a_word = field_validator("quantize", mode="before")(none_is_a_word)
    _one_or_several = field_validator("quantize_parts", mode="before")(one_or_several)


EXPERTS = "experts"
"""In `lora.target_modules`: the stacked weights of a mixture's experts."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LoraConfig:
    """Low-rank adapters (arXiv:2106.09685), through peft. Leave `lora` out of a recipe to train all weights."""

    r: Whole = Field(default=16, ge=1, le=65_536)
    """Rank."""
    alpha: Real | None = Field(default=None, gt=0, le=10**6)
    """Scale; twice the rank when left out."""
    dropout: Real = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input. The prompt's mask is shared by its responses."""
    target_modules: str | list[str] = "language"
    """language, projector, vision (one or a list): all linear layers of that part · all-linear: of all three ·
    experts: the stacked weights of a mixture's experts, alone or beside parts · else names of layers, or a regex."""
    use_rslora: bool = False
    """Scale by α/√r instead of α/r (arXiv:2312.03732), for high ranks."""
    use_dora: bool = False
    """Train magnitudes of weights apart from their directions (arXiv:2402.09353); slower."""
    init: Literal["default", "gaussian", "pissa"] = "default"
    """Where the adapter starts; pissa: from the largest singular values of the weights (arXiv:2404.02948)."""
    adapter: FileName | None = None
    """Folder of an adapter to train further; its own rank, scale and targets then hold."""

    @property
    def adapts_experts(self) -> bool:
        """Whether the stacked weights of experts get adapters."""
        return EXPERTS in ([self.target_modules] if isinstance(self.target_modules, str) else self.target_modules)

    @field_validator("target_modules")
    @classmethod
    def _a_regular_expression_is_one(cls, given: str | list[str]) -> Any:
        try:
            re.compile(given if isinstance(given, str) else "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"`lora.target_modules: {shown(given)}` is no regular expression: {error}.") from None
        return given


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReferenceConfig:
    """What the policy is compared with."""

    type: Literal["auto", "adapter-off", "frozen-copy", "precomputed", "last-round", "teacher", "none"] = "auto"
    """auto takes what objective and model need: none, adapter-off with LoRA, frozen-copy without. precomputed: computed
    for all rows before training, and read from disk: no reference is in memory. last-round: with `rounds`, the model
    that each round begins with (auto is that, too); adapter-off is the base in every round. teacher: another model."""
    model: FileName | None = None
    """The teacher: hub id or folder of a model of the policy's type, with the same tokenizer and image processor."""
    adapter: FileName | None = None
    """A LoRA adapter on the teacher, a folder or hub id."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Store the teacher's linear layers in 4 or 8 bits (bitsandbytes)."""
    path: OutputName | None = None
    """Folder of precomputed log-probs, for several runs on the same rows; in the run's folder when left out."""
    update_every: Whole | None = Field(default=None, ge=1, le=10**9)
    """TR-DPO (arXiv:2404.09656): move the reference towards the policy after every so many steps; left out: never."""
    update_weight: Real = Field(default=0.6, gt=0, le=1)
    """How far it moves: W_ref ← (1 − w)·W_ref + w·W. 1 copies the policy; below 1 with LoRA the reference keeps dense
    copies of the adapted weights."""

    _none_is_a_word = field_validator("type", "quantize", mode="before")(none_is_a_word)
