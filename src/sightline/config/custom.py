"""Objectives and samplers of the user's own: `type: file.py:NAME` or `type: package.module.NAME` in a recipe.

What is written as `{type: my.py:loss, kind: pairs, margin: 0.5}` is read as one of the groups here: `function` is the
name, and keys that are no fields are `options`, which the function gets as keyword arguments.
"""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from sightline.config.online import OffPolicySamplerConfig, TransformersSamplerConfig, VLLMSamplerConfig
from sightline.config.online_objectives import ClippedConfig
from sightline.config.pair_objectives import PairConfig
from sightline.config.refusal import Refusal
from sightline.config.strict import STRICT, Options


def names_user_code(name: Any) -> bool:
    """Whether a `type` is a path to user code (`my.py:loss`, `package.module.loss`) rather than a built-in's name."""
    return isinstance(name, str) and (":" in name or "." in name)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CustomPairConfig(PairConfig):
    """A loss of your own over pairs: `loss(chosen, rejected, ref_chosen, ref_rejected, **options) -> [pairs]`."""

    refuses: ClassVar[dict[str, str]] = {}
    type: Literal["custom"] = "custom"
    function: str
    """`file.py:function` or `package.module.function`."""
    uses_reference: bool = True
    """Whether the loss reads `ref_chosen` and `ref_rejected`; false loads no reference."""
    options: Options = field(default_factory=dict)
    """Its own options; in a recipe they stand beside `beta`."""

    @property
    def needs_reference(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.uses_reference


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CustomTokenConfig(Refusal):
    """A loss of your own over the tokens of demonstrations: `loss(logp, **options) -> [tokens]`."""

    needs_reference: ClassVar[bool] = False
    type: Literal["custom_tokens"] = "custom_tokens"
    function: str
    """`file.py:function` or `package.module.function`."""
    options: Options = field(default_factory=dict)
    """Its own options; in a recipe they stand beside `type`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CustomOnlineConfig(ClippedConfig):
    """A loss of your own over tokens of sampled completions: `loss(log_ratio, advantage, **options) -> [tokens]`."""

    type: Literal["custom_online"] = "custom_online"
    function: str
    """`file.py:function` or `package.module.function`."""
    options: Options = field(default_factory=dict)
    """Its own options; in a recipe they stand beside `type`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CustomSamplerConfig(OffPolicySamplerConfig):
    """A sampler of your own: `Sampler(model, processor, **options)`, see docs/extending.md."""

    type: Literal["custom"] = "custom"
    function: str
    """`file.py:Class` or `package.module.Class`."""
    options: Options = field(default_factory=dict)
    """Its own options; in a recipe they stand beside `num_generations`."""


OBJECTIVE_KINDS = {"pairs": CustomPairConfig, "tokens": CustomTokenConfig, "online": CustomOnlineConfig}
"""What `kind` in a recipe's `objective` means: the rows that a loss of one's own is over."""


def read_objective(given: Any) -> Any:
    """The `objective` group with `type: my.py:loss` spelled out. Raises `ValueError` for an unknown `kind`."""
    if not isinstance(given, Mapping) or not names_user_code(given.get("type")):
        return given
    entry = dict(given)
    kind = entry.pop("kind", "pairs")
    if kind not in OBJECTIVE_KINDS:
        raise ValueError(
            f"`objective.kind: {kind}` is unknown. A loss of your own is over {', '.join(OBJECTIVE_KINDS)}: pairs of a "
            "chosen and a rejected response, tokens of demonstrations, or tokens of sampled completions (online)."
        )
    return _spelled_out(entry, OBJECTIVE_KINDS[kind])


def read_sampler(given: Any) -> Any:
    """The `sampler` group with `type: my.py:Sampler` spelled out."""
    if not isinstance(given, Mapping) or not names_user_code(given.get("type")):
        return given
    return _spelled_out(dict(given), CustomSamplerConfig)


def _spelled_out(entry: dict[str, Any], kind: type) -> dict[str, Any]:
    own = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    function = entry.pop("type")
    options = {**entry.get("options", {}), **{name: value for name, value in entry.items() if name not in own}}
    known = {name: value for name, value in entry.items() if name in own and name != "options"}
    tag = own["type"].default
    return {**known, "type": getattr(tag, "default", tag), "function": function, "options": options}


SamplerConfig = Annotated[
    TransformersSamplerConfig | VLLMSamplerConfig | CustomSamplerConfig,
    Field(discriminator="type"),
    BeforeValidator(read_sampler),
]
