"""TR-DPO (arXiv:2404.09656, eqs. 6 and 7): a reference that follows the policy, W_ref ← (1 − α)·W_ref + α·W.

With LoRA the effective weight is W + B·A. A hard update (α = 1) copies the adapter. A soft one cannot mix A and B
apart, because (1 − α)·B₀A₀ + α·B₁A₁ is not the product of the mixed factors: the reference then holds its own copy of
the adapted weights, mixed as dense matrices (as much memory as those layers in the precision they are stored in).
"""

from collections.abc import Iterator

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn

from sightline.errors import ModelError
from sightline.forward.reference import Reference
from sightline.models.unwrap import without_engine


@torch.no_grad()
def move_reference(reference: Reference, policy: nn.Module, *, weight: float) -> None:
    """Move a frozen copy towards the policy by `weight` in (0, 1]; everything else of it stays."""
    assert reference.mode == "frozen-copy", "only a copy can move"
    policy = without_engine(policy)
    if isinstance(policy, PeftModel) and weight < 1:
        for ours, theirs in _adapted_layers(policy, reference.model):
            _mix_dense(ours, theirs, weight)
        return
    trained = {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    for name, parameter in reference.model.named_parameters():
        if name in trained:
            parameter.lerp_(trained[name].to(parameter.dtype), weight)


def moved_state(reference: Reference, policy: nn.Module) -> dict[str, torch.Tensor]:
    """What has to be saved to go on with this reference: the tensors that it does not share with the policy."""
    shared = {parameter.data_ptr() for parameter in without_engine(policy).parameters()}
    own = {n: p.detach().contiguous() for n, p in reference.model.named_parameters() if p.data_ptr() not in shared}
    return {name: tensor.clone() for name, tensor in own.items()}


@torch.no_grad()
def load_moved_state(reference: Reference, state: dict[str, torch.Tensor]) -> None:
    """Put a saved reference back; a tensor that was shared with the policy then becomes the reference's own."""
    for name, tensor in state.items():
        module_name, _, leaf = name.rpartition(".")
        module = reference.model.get_submodule(module_name)
        current = getattr(module, leaf)
        setattr(module, leaf, nn.Parameter(tensor.to(current.device, current.dtype), requires_grad=False))


def _adapted_layers(policy: nn.Module, reference: nn.Module) -> Iterator[tuple[LoraLayer, LoraLayer]]:
    copies = dict(reference.named_modules())
    for name, module in policy.named_modules():
        if isinstance(module, LoraLayer):
            copy = copies[name]
            assert isinstance(copy, LoraLayer)
            yield module, copy


def _mix_dense(ours: LoraLayer, theirs: LoraLayer, weight: float) -> None:
    base, copied = ours.get_base_layer(), theirs.get_base_layer()
    if not isinstance(base, nn.Linear) or type(base) is not type(copied) or type(base) is not nn.Linear:
        raise ModelError(
            f"A soft reference update mixes dense weights, but an adapted layer is a {type(base).__name__}. Use "
            "`reference.update_weight: 1` (which copies the adapter), or do not quantise."
        )
    assert isinstance(copied, nn.Linear)
    if copied.weight.data_ptr() == base.weight.data_ptr():
        # the first update: the copy gets weights of its own, with what its adapter adds
        merged = base.weight + _delta(theirs).to(base.weight.dtype)
        copied.weight = nn.Parameter(merged, requires_grad=False)
        for adapter in theirs.active_adapters:
            torch.nn.init.zeros_(theirs.lora_B[adapter].weight)  # pyright: ignore[reportArgumentType]
    current = base.weight + _delta(ours).to(base.weight.dtype)
    copied.weight.lerp_(current, weight)


def _delta(layer: LoraLayer) -> torch.Tensor:
    deltas = [layer.get_delta_weight(adapter) for adapter in layer.active_adapters]  # pyright: ignore[reportCallIssue]
    return torch.stack(deltas).sum(0)
