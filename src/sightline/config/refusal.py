"""Refusing an option of one objective that means nothing in another, with the reason."""

from dataclasses import fields
from typing import Any, ClassVar

from pydantic import model_validator
from pydantic_core import ArgsKwargs

NO_DIVERGENCE = (
    "`{option}` is invalid with `{type}`: an f-divergence leaves an unknown term of the prompt in every reward, which "
    "cancels only in a loss of the difference of two rewards. Leave `{option}` out, or take dpo, robust, hinge, ipo, "
    "exo_pair, discopop, sigmoid_norm or ddpo."
)
NO_RATIO = (
    "`{option}` is invalid with `{type}`, which has no reference and so no ratio to a reference that it could change. "
    "Leave `{option}` out."
)
SORTED = (
    "`wpo` is invalid with `{type}`: it sorts log-ratios over the step, so a row of its loss no longer is a pair that "
    "WPO could weight. Leave `wpo` out, or take another pair loss."
)
NORMALISED = "`{option}` is invalid with `{type}`, which divides by length already. Leave it out."
ANOTHER_IMAGE = (
    "`{option}` is invalid with `{type}`, which also compares one answer on two images, where there is no second "
    "response. Leave `{option}` out."
)
DIVERGENCES = ("divergence", "divergence_alpha")


class Refusal:
    """Options that a user may try and that mean nothing here: name → reason. Their default is let through.

    needs_reference: whether the loss compares with a reference.
    """

    refuses: ClassVar[dict[str, str]] = {}
    needs_reference: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _refuse_options_of_others(cls, given: Any) -> Any:
        options = (given.kwargs or {}) if isinstance(given, ArgsKwargs) else given
        own = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        for option in options if isinstance(options, dict) else ():
            if option in cls.refuses and option not in own:
                raise ValueError(cls._reason(option))
        return given

    @model_validator(mode="after")
    def _refuse_own_options(self) -> Any:
        for f in fields(self):  # type: ignore[arg-type]
            if f.name in self.refuses and getattr(self, f.name) != default(type(self), f.name):
                raise ValueError(self._reason(f.name))
        return self

    @classmethod
    def _reason(cls, option: str) -> str:
        return cls.refuses[option].format(type=default(cls, "type"), option=option)


def default(owner: Any, name: str) -> Any:
    """A field's default, also where pydantic's `Field` wraps it."""
    value = next(f.default for f in fields(owner) if f.name == name)
    return getattr(value, "default", value)
