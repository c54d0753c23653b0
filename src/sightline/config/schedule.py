"""Learning rate schedules and optimizers by transformers' names: which there are, with which options, and what each
needs installed. The tables are held against the library by a test."""

from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole, expected_number
from sightline.config.strict import STRICT
from sightline.errors import did_you_mean, shown


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Plain:
    """A schedule without options."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cosine:
    """Half a cosine, or so many whole ones."""

    num_cycles: Real = Field(default=0.5, gt=0, le=10**6)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Restarts:
    """Cosines that begin again at the peak."""

    num_cycles: Whole = Field(default=1, ge=1, le=10**6)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Polynomial:
    """A power of what is left of the run, down to `lr_end`."""

    lr_end: Real = Field(default=1e-7, ge=0, le=100)
    power: Real = Field(default=1.0, gt=0, le=100)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InverseRoot:
    """1/√step from `timescale` on, the warm-up's steps when left out."""

    timescale: Whole | None = Field(default=None, ge=1, le=10**9)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Plateau:
    """Times `factor` whenever the held-out loss has not been better for `patience` evaluations."""

    factor: Real = Field(default=0.1, gt=0, lt=1)
    patience: Whole = Field(default=10, ge=0, le=10**6)
    threshold: Real = Field(default=1e-4, ge=0, le=10**6)
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: Whole = Field(default=0, ge=0, le=10**6)
    min_lr: Real = Field(default=0.0, ge=0, le=100)
    eps: Real = Field(default=1e-8, ge=0, le=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CosineToFloor(Cosine):
    """A cosine down to `min_lr`, or to `min_lr_rate` of the peak."""

    min_lr: Real | None = Field(default=None, ge=0, le=100)
    min_lr_rate: Real | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _one_floor(self) -> Any:
        if (self.min_lr is None) == (self.min_lr_rate is None):
            raise ValueError("it needs one of `min_lr`, a learning rate, and `min_lr_rate`, a share of the peak")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WarmCosineToFloor(CosineToFloor):
    """The same, with a warm-up that begins at `warmup_lr_rate` of the peak."""

    warmup_lr_rate: Real | None = Field(default=None, ge=0, le=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WarmupStableDecay:
    """WSD: warm-up, the peak, and a decay of so many steps at the end (arXiv:2404.06395)."""

    num_decay_steps: Whole = Field(ge=1, le=10**9)
    num_stable_steps: Whole | None = Field(default=None, ge=0, le=10**9)
    warmup_type: Literal["linear", "cosine", "1-sqrt"] = "linear"
    decay_type: Literal["linear", "cosine", "1-sqrt"] = "cosine"
    min_lr_ratio: Real = Field(default=0.0, ge=0, le=1)
    num_cycles: Real = Field(default=0.5, gt=0, le=10**6)


SCHEDULES: dict[str, type] = {
    "linear": Plain,
    "cosine": Cosine,
    "cosine_with_restarts": Restarts,
    "polynomial": Polynomial,
    "constant": Plain,
    "constant_with_warmup": Plain,
    "inverse_sqrt": InverseRoot,
    "reduce_lr_on_plateau": Plateau,
    "cosine_with_min_lr": CosineToFloor,
    "cosine_warmup_with_min_lr": WarmCosineToFloor,
    "warmup_stable_decay": WarmupStableDecay,
}
"""`lr_scheduler_type` → what `lr_scheduler_kwargs` may hold."""
SCHEDULES_NOT_HERE = {"greedy": "it changes with every evaluation by figures that checkpoints do not keep"}
WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau")
FLOORS = ("lr_end", "min_lr")
"""Options that are learning rates themselves."""

OPTIMIZERS: dict[str, str | None] = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")),
    **dict.fromkeys(
        ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "ademamix", "ademamix_8bit",
         "paged_ademamix_8bit", "paged_ademamix_32bit", "lion_8bit", "lion_32bit", "paged_lion_8bit",
         "paged_lion_32bit", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"), "bitsandbytes"
    ),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), "torchao"),
    "grokadamw": "grokadamw",
    "stable_adamw": "optimi",
    "adamw_anyprecision": "torchdistx",
    "adamw_torch_xla": "torch_xla",
    "adamw_torch_npu_fused": "torch_npu",
}  # fmt: skip
"""`optim` → the module that it needs, None where torch and transformers have it."""
LOW_RANK = "it needs `optim_target_modules`, which is no field here; `lora` trains few weights as well"
AVERAGING = "it keeps two sets of weights, and evaluation and checkpoints here know of one"
FUSED = "it updates weights inside the backward, and a step here is cut into several"
OPTIMIZERS_NOT_HERE = {
    **dict.fromkeys(
        ("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "galore_adamw_layerwise",
         "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "apollo_adamw", "apollo_adamw_layerwise"),
        LOW_RANK,
    ),
    **dict.fromkeys(("schedule_free_adamw", "schedule_free_sgd", "schedule_free_radam"), AVERAGING),
    **dict.fromkeys(("lomo", "adalomo"), FUSED),
}  # fmt: skip
"""transformers' own that cannot train here, with the reason."""


def known_schedule(name: str) -> str:
    """The name. Raises `ValueError` for a schedule that there is not, or not here."""
    return _known(name, SCHEDULES, SCHEDULES_NOT_HERE, "lr_scheduler_type", "schedule")


def known_optimizer(name: str) -> str:
    """The name. Raises `ValueError` for an optimizer that there is not, or not here."""
    return _known(name, OPTIMIZERS, OPTIMIZERS_NOT_HERE, "optim", "optimizer")


def _known(name: str, known: dict[str, Any], not_here: dict[str, str], field: str, what: str) -> str:
    if name in not_here:
        raise ValueError(f"`{field}: {name}` cannot train here: {not_here[name]}. Take another {what}.")
    if name not in known:
        hint = did_you_mean(name, known, f"Known: {', '.join(known)}.")
        raise ValueError(f"`{field}: {shown(name)}` is no {what} of transformers'. {hint}")
    return name


def refuse_options(name: str, options: dict[str, Any], learning_rate: int | float, warmup_steps: int | float) -> None:
    """Raises `ValueError` for options that the schedule does not have, or lacks, or that cannot be."""
    kind: Any = SCHEDULES[name]
    try:
        read = TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        raise ValueError(f"`lr_scheduler_type: {name}`: {_explained(error.errors()[0], kind)}") from None
    for option in FLOORS:
        floor = getattr(read, option, None) or 0
        if floor >= learning_rate and floor > 0:
            raise ValueError(
                f"`lr_scheduler_type: {name}` ends at `{option}: {floor}`, which is not below `learning_rate: "
                f"{learning_rate}`. Give a lower one in `lr_scheduler_kwargs`."
            )
    if warmup_steps and name in WITHOUT_WARMUP:
        other = ", or take `constant_with_warmup`" if name == "constant" else ""
        raise ValueError(f"`lr_scheduler_type: {name}` has no warm-up. Leave `warmup_steps` out{other}.")


def _explained(error: Any, kind: Any) -> str:
    option = ".".join(map(str, error["loc"]))
    known = kind.__pydantic_fields__
    match error["type"]:
        case "unexpected_keyword_argument":
            has = f"It has {', '.join(known)}." if known else "It has none."
            return f"there is no option `{shown(option)}`. {did_you_mean(option, known, has)}"
        case "missing_argument" | "missing":
            return f"`lr_scheduler_kwargs` has to give `{option}`. {expected_number(known[option])}"
        case "value_error":
            return f"{error['msg'].removeprefix('Value error, ')}: `lr_scheduler_kwargs: {{min_lr_rate: 0.1}}`."
    expected = (expected_number(known[option]) if option in known else None) or f"{error['msg']}."
    return f"`lr_scheduler_kwargs.{option}: {shown(error['input'])}` cannot be. {expected}"
