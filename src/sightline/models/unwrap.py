"""From what a trainer calls (DDP, torch.compile, peft around a model) to the bare transformers model."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

ENGINES = ("DistributedDataParallel", "DeepSpeedEngine")
"""Classes around a model that hold it as `module`, by name: DeepSpeed need not be installed."""


def without_engine(model: nn.Module) -> nn.Module:
    """The model inside DDP, DeepSpeed and torch.compile; adapters stay. FSDP2 changes modules in place."""
    while True:
        if type(model).__name__ in ENGINES:
            model = model.module  # pyright: ignore[reportAssignmentType]
        elif isinstance(model, OptimizedModule):
            model = model._orig_mod
        else:
            return model


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile is around the model."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return isinstance(inner, OptimizedModule) or isinstance(model, OptimizedModule)


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The bare transformers model, its adapters inside its layers."""
    model = without_engine(model)
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(bare, PreTrainedModel), f"not a transformers model: {type(bare).__name__}"
    return bare


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradient checkpointing for a while; afterwards every module has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()  # by its method: layers of bitsandbytes do more than note the mode
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def without_adapters(model: PeftModel) -> Iterator[None]:
    """The weights below the adapters for a while, as peft's `disable_adapter` has them.

    peft's also takes stock of all layers and switches gradients off and on, which takes longer than a small forward;
    it serves where whole modules or single tokens are adapted, too, which have switches of their own.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    is_plain = all(type(layer).enable_adapters is BaseTunerLayer.enable_adapters for layer in layers)
    if not is_plain or any(isinstance(module, AuxiliaryTrainingWrapper) for module in model.modules()):
        with model.disable_adapter():
            yield
        return
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer._disable_adapters = was


def forward_classes(kind: type) -> list[type]:
    """The classes whose code a model's forward is: that which defines it, and above it those that it calls by `super`.

    A class of FSDP2's own making, without source, and one that inherits its forward are passed over.
    """
    found: list[type] = []
    for base in kind.__mro__:
        if "forward" in vars(base) and base is not nn.Module and not issubclass(base, FSDPModule):
            found.append(base)
            if "super().forward(" not in inspect.getsource(base):
                break
    return found
