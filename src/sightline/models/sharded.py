"""Models whose weights are spread over processes (FSDP2, DeepSpeed ZeRO-3): what stays whole, and made whole again.

A forward of such a model gathers weights from all processes, so all of them have to make as many, in the same order.
Frozen vision towers and projectors are kept out: a process whose rows have no picture need not call them then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from sightline.models.families.find import family_of
from sightline.models.unwrap import is_deepspeed


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


def whole_state(model: nn.Module, *, keep: bool) -> dict[str, Tensor]:
    """What has to be saved of a model that is spread, on the CPU: trained weights of an adapted one, else all.

    Every process calls it; those with `keep` have the result. Tied weights stay one tensor.
    """
    adapter_only = isinstance(model, PeftModel)
    state: dict[str, Tensor] = {}
    known: dict[int, Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if adapter_only and not value.requires_grad:
            continue
        if id(value) not in known:
            with whole(value) as tensor:
                known[id(value)] = tensor.cpu() if keep else tensor.new_empty(0)
        state[name] = known[id(value)]
    return state if keep else {}


@contextmanager
def whole(weight: Tensor) -> Iterator[Tensor]:
    """Within, all of a weight, however it is spread; not to be changed. Every process enters."""
    if isinstance(weight, DTensor):
        yield weight.detach().full_tensor()
    elif hasattr(weight, "ds_id") and weight.ds_status.name != "AVAILABLE":
        import deepspeed  # pyright: ignore[reportMissingImports]

        with deepspeed.zero.GatheredParameters([weight]):
            yield weight.detach().clone()
    else:
        yield weight.detach()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within, every process holds all weights, and may call the model as often as it likes. Every process enters."""
    if is_deepspeed(model):
        with _gathered_zero(model):
            yield
        return
    if not isinstance(model, FSDPModule):
        yield
        return
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
def _gathered_zero(engine: Any) -> Iterator[None]:
    if engine.zero_optimization_stage() < 3:
        yield
        return
    import deepspeed  # pyright: ignore[reportMissingImports]

    offload = engine.optimizer.parameter_offload
    weights = [weight for weight in engine.module.parameters() if hasattr(weight, "ds_id")]
    with deepspeed.zero.GatheredParameters(weights):
        taken = []
        # they give weights back behind each layer, and compare with the other processes what is called in which order
        for handle in [offload.fwd_pre_hook, *offload.forward_hooks, *offload.backward_hooks]:
            hooks = handle.hooks_dict_ref()
            taken.append((hooks, handle.id, hooks.pop(handle.id)))
        try:
            yield
        finally:
            for hooks, number, hook in taken:
                hooks[number] = hook
