"""Models whose weights are spread over processes (FSDP2, DeepSpeed ZeRO-3): what stays whole, and made whole again.

A forward of such a model gathers weights from all processes, so all of them have to make as many, in the same order.
Frozen vision towers and projectors are kept out: a process whose rows have no picture need not call them then.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule

from sightline.policy.families import family_of
from sightline.policy.unwrap import is_deepspeed


@contextmanager
def kept_whole(model: nn.Module) -> Iterator[None]:
    """Within, the frozen parts of tower and projector are not parts of the model, so that no engine shards them."""
    family = family_of(model)
    taken: list[tuple[nn.Module, str, nn.Module]] = []

    def take(module: nn.Module, path: str) -> None:
        for name, child in list(module.named_children()):
            inside = [(f"{path}{name}.{leaf}", weight) for leaf, weight in child.named_parameters()]
            frozen = all(
                not weight.requires_grad and family.part_of(full) in ("vision", "projector") for full, weight in inside
            )
            if inside and frozen:
                taken.append((module, name, child))
            elif inside:
                take(child, f"{path}{name}.")

    take(family.model, "")
    for module, name, _ in taken:
        module._modules[name] = nn.Identity()
    try:
        yield
    finally:
        for module, name, child in taken:
            module._modules[name] = child


def layer_class(model: nn.Module) -> str:
    """Name of the class of the language model's layers, which engines gather one at a time."""
    layers: Any = family_of(model).model.get_decoder().layers
    return type(layers[0]).__name__


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within, every process holds all weights, and may call the model as often as it likes. Every process enters."""
    with ExitStack() as stack:
        if is_deepspeed(model):
            stack.enter_context(_gathered_zero3(model))
        elif isinstance(model, FSDPModule):
            stack.enter_context(_gathered_fsdp(model))
        yield


@contextmanager
def _gathered_fsdp(model: FSDPModule) -> Iterator[None]:
    # FSDP finds its root at the first forward; parts of the model may be called before that
    model._get_fsdp_state()._lazy_init()
    assert isinstance(model, nn.Module)
    states = [module._get_fsdp_state() for module in model.modules() if isinstance(module, FSDPModule)]
    groups = list({id(group): group for state in states for group in _groups_of(state)}.values())
    before = [group.post_forward_mesh_info for group in groups]
    for group in groups:
        group.post_forward_mesh_info = None  # do not shard again behind each forward
        group.lazy_init()
        group.unshard()
        group.wait_for_unshard()
    try:
        yield
    finally:
        for group, info in zip(groups, before, strict=True):
            group.post_forward_mesh_info = info
            group.reshard()


def _groups_of(state: Any) -> list[Any]:
    many = getattr(state, "_fsdp_param_groups", None)
    if many is not None:
        return list(many)
    return [] if state._fsdp_param_group is None else [state._fsdp_param_group]


@contextmanager
def _gathered_zero3(engine: Any) -> Iterator[None]:
    if engine.zero_optimization_stage() < 3:
        yield
        return
    import deepspeed  # pyright: ignore[reportMissingImports]

    offload = engine.optimizer.parameter_offload
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        # its hooks would give weights back behind each layer
        for parameter in engine.module.parameters():
            if hasattr(parameter, "ds_active_sub_modules"):
                parameter.ds_active_sub_modules.clear()
        for hook in [*offload.forward_hooks, *offload.backward_hooks]:
            hook.remove()
        offload.forward_hooks, offload.backward_hooks = [], []
        try:
            yield
        finally:
            offload.setup_zero_stage3_hooks()
