"""What the policy is compared with: itself without its adapter, or a frozen copy of where it started."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from peft import PeftModel
from torch import nn

from sightline.config import ReferenceConfig
from sightline.errors import RecipeError
from sightline.forward import forward
from sightline.forward.features import Features, encode_as_it_is
from sightline.models.unwrap import in_eval_mode, without_adapters, without_engine
from sightline.types import Batch, Group, LogProbs


@runtime_checkable
class AnyReference(Protocol):
    """Whatever answers as `Reference` does: a model's weights, or log-probs on disk."""

    @property
    def log_probs(self) -> Callable[..., LogProbs]: ...


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A policy that does not move. mode: whose weights answer, the adapted model's own, a copy's, or a teacher's."""

    mode: Literal["adapter-off", "frozen-copy", "teacher"]
    model: nn.Module

    def log_probs(
        self,
        batch: Batch,
        *,
        groups: list[Group],
        features: Features | None,
        statistics: bool = False,
        temperature: float = 1.0,
    ) -> LogProbs:
        """As `forward.log_probs`, without gradient, in evaluation mode, by the reference's weights.

        features: the policy's own may be given: `features.encode` shares them only where tower and projector are
        frozen, and then the reference has the same.
        """
        options = {"groups": groups, "features": features, "statistics": statistics, "temperature": temperature}
        with torch.no_grad(), in_eval_mode(self.model):
            if self.mode == "teacher":
                # it sees images by its own tower
                return forward.log_probs(
                    self.model, batch, **{**options, "features": encode_as_it_is(self.model, groups)}
                )
            if self.mode == "frozen-copy":
                return forward.log_probs(self.model, batch, **options)
            assert isinstance(self.model, PeftModel)
            with without_adapters(self.model):
                return forward.log_probs(self.model, batch, **options)


def build_reference(model: nn.Module, config: ReferenceConfig, has_lora: bool, needed: bool) -> Reference | None:
    """The reference that a recipe asks for; None where the objective needs none.

    model: the policy before its first step (and before FSDP shards it). auto is adapter-off with a new adapter,
    frozen-copy otherwise. A copy shares the weights that are never trained: of an adapted model it holds the adapter
    alone. None, too, for precomputed log-probs, which need the rows. Raises RecipeError where the choice means nothing.
    """
    if not needed:
        if config.type in ("auto", "none"):
            return None
        raise RecipeError(
            f"`reference.type` is {config.type!r}, but this objective compares with no reference. Leave it out."
        )
    assert config.type not in ("teacher", "last-round"), "a teacher is loaded, and a round's run says auto"
    can_switch_off = has_lora and config.update_every is None and is_neutral(model)
    mode = config.type if config.type != "auto" else "adapter-off" if can_switch_off else "frozen-copy"
    if mode == "precomputed":
        return None
    if mode == "none":
        raise RecipeError("`reference.type` is 'none', but this objective needs a reference. Leave it out for `auto`.")
    if mode == "adapter-off":
        if not has_lora:
            raise RecipeError(
                "`reference.type` is 'adapter-off', but no adapter is trained. Add `lora`, or take 'frozen-copy'."
            )
        return Reference(mode=mode, model=without_engine(model))
    return Reference(mode=mode, model=_frozen_copy(without_engine(model)))


TRAINED_WHOLE = ("modules_to_save", "trainable_tokens")
"""Parts of an adapter that stand in for weights of the base (peft's `modules_to_save`, `trainable_token_indices`)."""


def is_neutral(model: nn.Module) -> bool:
    """Whether the adapter adds nothing yet; one that is trained further is part of where the policy starts."""
    outer = [p for name, p in model.named_parameters() if "lora_B" in name]
    whole = any(kind in name for name, _ in model.named_parameters() for kind in TRAINED_WHOLE)
    return not whole and not any(bool(p.any()) for p in outer)


def _frozen_copy(model: nn.Module) -> nn.Module:
    # what never moves need not be stored twice
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return deepcopy(model, shared).requires_grad_(False).eval()
