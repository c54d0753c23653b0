"""Objectives by `type`, each with its own fields: an option that does not belong to an objective is refused.

Every loss is a `type` of its own and, by the same name, a part of `mix`. docs/objectives.md has the equations.
"""

from dataclasses import field, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from sightline.config.custom import (
    CustomOnlineConfig,
    CustomPairConfig,
    CustomTokenConfig,
    names_user_code,
    read_objective,
)
from sightline.config.numbers import Real, expected_number
from sightline.config.online_objectives import OnlineObjectiveConfig
from sightline.config.other_objectives import (
    BCOConfig,
    CPOConfig,
    DFTConfig,
    KTOConfig,
    MDPOConfig,
    ORPOConfig,
    SFTConfig,
    SimPOConfig,
)
from sightline.config.pair_objectives import (
    AOTConfig,
    AOTUnpairedConfig,
    APODownConfig,
    APOZeroConfig,
    BCOPairConfig,
    DDPOConfig,
    DiscoPOPConfig,
    DPOConfig,
    DPOPConfig,
    EXOConfig,
    HingeConfig,
    IPOConfig,
    NCAConfig,
    RobustConfig,
    SigmoidNormConfig,
    SPPOConfig,
)
from sightline.config.strict import STRICT
from sightline.errors import shown

PartConfig = (
    SFTConfig
    | DFTConfig
    | DPOConfig
    | RobustConfig
    | HingeConfig
    | IPOConfig
    | EXOConfig
    | NCAConfig
    | BCOPairConfig
    | SPPOConfig
    | AOTConfig
    | AOTUnpairedConfig
    | APOZeroConfig
    | APODownConfig
    | DiscoPOPConfig
    | SigmoidNormConfig
    | DPOPConfig
    | DDPOConfig
    | MDPOConfig
    | SimPOConfig
    | ORPOConfig
    | CPOConfig
    | KTOConfig
    | BCOConfig
)
"""Built-in objectives that can be parts of a mixture."""

AnyPartConfig = PartConfig | CustomPairConfig | CustomTokenConfig
"""Those, and losses of the user's own."""

PART_TYPES: dict[str, type[PartConfig]] = {
    name: option
    for option in get_args(PartConfig)
    for f in fields(option)
    if f.name == "type"
    for name in get_args(f.type)
}

PART_WEIGHT: TypeAdapter[float] = TypeAdapter(Annotated[Real, Field(ge=0, le=10**6, allow_inf_nan=False)])
SHARED = ("beta", "ld_alpha", "wpo", "divergence", "divergence_alpha")


@dataclass(frozen=True, kw_only=True)
class WeightedPart:
    """A part of a mixture, read."""

    weight: float
    config: AnyPartConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MixConfig:
    """A weighted sum of objectives; every part is logged as `loss/<part>` and divided by its own count."""

    type: Literal["mix"] = "mix"
    parts: dict[str, Real | dict[str, Any]] = field(default_factory=dict)
    """Part → weight, or → its weight and options: `{sigmoid: 0.8, ipo: {weight: 0.2, beta: 0.5}, sft: 1.0}`."""
    beta: Real | None = Field(default=None, gt=0, le=10**6)
    """β of every part that has one and does not give its own; each objective's default when left out."""
    ld_alpha: Real | None = Field(default=None, ge=0, le=1)
    """LD-DPO for every part over pairs."""
    wpo: bool | None = None
    """WPO for every part over pairs."""
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] | None = None
    """f-divergence for every part over pairs."""
    divergence_alpha: Real | None = Field(default=None, ge=-1000, le=1000)
    """α of `divergence: alpha`."""

    @model_validator(mode="after")
    def _parts_can_be_read(self) -> Any:
        if not self.parts:
            raise ValueError("`mix` needs `parts`, for example `parts: {sigmoid: 0.8, bco_pair: 0.2, sft: 1.0}`.")
        if not any(part.weight > 0 for part in self.read_parts().values()):
            raise ValueError("Every part of this `mix` has weight 0: nothing would be learned. Give one a weight.")
        return self

    def read_parts(self) -> dict[str, WeightedPart]:
        """Each part with its weight and config. Raises `ValueError` for a part that cannot be."""
        return {name: self._read_part(name, given) for name, given in self.parts.items()}

    def _read_part(self, name: str, given: float | dict[str, Any]) -> WeightedPart:
        if name not in PART_TYPES and not names_user_code(name):
            known = ", ".join(PART_TYPES)
            raise ValueError(f"`mix` has no part `{name}`. Known: {known}; one of your own is `file.py:function`.")
        options = dict(given) if isinstance(given, dict) else {"weight": given}
        weight = options.pop("weight", 1.0)
        try:
            weight = PART_WEIGHT.validate_python(weight)
        except ValidationError:
            raise ValueError(
                f"Part `{name}` has weight {shown(weight)}; a weight is a number, 0 to 1e6 (below 0, the loss would be "
                "something to raise)."
            ) from None
        if names_user_code(name):
            return WeightedPart(weight=weight, config=self._custom_part(name, options))
        kind = PART_TYPES[name]
        shared = {key: value for key in SHARED if (value := getattr(self, key)) is not None}
        if kind in (SFTConfig, DFTConfig):
            shared = {}
        try:
            return WeightedPart(
                weight=weight, config=TypeAdapter(kind).validate_python({"type": name, **shared, **options})
            )
        except ValidationError as error:
            raise ValueError(f"Part `{name}`: {_explain(error, kind)}") from None

    def _custom_part(self, name: str, options: dict[str, Any]) -> CustomPairConfig | CustomTokenConfig:
        entry = read_objective({"type": name, **options})
        kind = {"custom": CustomPairConfig, "custom_tokens": CustomTokenConfig}.get(entry["type"])
        if kind is None:
            raise ValueError(f"Part `{name}` is over sampled completions (`kind: online`), which cannot be mixed.")
        shared = {key: value for key in SHARED if (value := getattr(self, key)) is not None}
        own = {f.name for f in fields(kind)}
        entry = {**{key: value for key, value in shared.items() if key in own}, **entry}
        try:
            return TypeAdapter(kind).validate_python(entry)
        except ValidationError as error:
            raise ValueError(f"Part `{name}`: {_explain(error, kind)}") from None


def _explain(error: ValidationError, kind: type[PartConfig]) -> str:
    first = error.errors()[0]
    option = ".".join(str(key) for key in first["loc"])
    match first["type"]:
        case "value_error":
            return first["msg"].removeprefix("Value error, ")
        case "unexpected_keyword_argument":
            known = ", ".join(["weight", *(f.name for f in fields(kind) if f.name != "type")])
            return f"there is no option `{option}`. It takes {known}."
        case _:
            expected = expected_number(kind.__pydantic_fields__[option]) if option in kind.__pydantic_fields__ else None
            return f"`{option}: {shown(first['input'])}` cannot be. {expected or first['msg'] + '.'}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MPOConfig:
    """MPO (arXiv:2411.10442): preference, quality and generation losses: sigmoid, bco_pair and sft."""

    type: Literal["mpo"] = "mpo"
    beta: Real = Field(default=0.1, gt=0, le=10**6)
    """Strength of the pull towards the reference."""
    preference_weight: Real = Field(default=0.8, ge=0, le=10**6)
    """Weight of `sigmoid`: which response is better."""
    quality_weight: Real = Field(default=0.2, ge=0, le=10**6)
    """Weight of `bco_pair`: how good each response is by itself."""
    generation_weight: Real = Field(default=1.0, ge=0, le=10**6)
    """Weight of `sft`: how to write the chosen response."""
    running_shift: bool = False
    """Subtract the running mean δ of all rewards so far in `bco_pair` (as InternVL does); off is δ = 0."""

    def as_mix(self) -> MixConfig:
        """The same as a mixture."""
        return MixConfig(
            parts={
                "sigmoid": self.preference_weight,
                "bco_pair": {"weight": self.quality_weight, "running_shift": self.running_shift},
                "sft": self.generation_weight,
            },
            beta=self.beta,
        )


ObjectiveConfig = Annotated[
    PartConfig
    | MixConfig
    | MPOConfig
    | OnlineObjectiveConfig
    | CustomPairConfig
    | CustomTokenConfig
    | CustomOnlineConfig,
    Field(discriminator="type"),
    BeforeValidator(read_objective),
]
