"""Hybrids (Qwen3.5, LFM2, MiniCPM-V 4.6): layers that keep a state stand between those of attention.

A prompt's state is computed once and forked to its responses. One small file a kind of layer says how; the layers'
forward is replaced once, and reads a `Fork` that comes as its mask. Without one it is what it was.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.attention.fork import Fork, fork_of, mask_with
from sightline.models.families import delta_net, short_conv
from sightline.models.families.family import Family
from sightline.types import Batch

FORKED: dict[str, Callable[[Any, Tensor, Fork], Tensor]] = {
    "GatedDeltaNet": delta_net.forked,
    "ShortConv": short_conv.forked,
}
"""By how the name of a layer's class ends: its output where responses continue prompts."""
KERNELS = {"linear_attention": "linear_conv_kernel_dim", "conv": "conv_L_cache"}
"""Kinds of layer (`layer_types` of config.json) with a state, and the config's key for their kernel's length."""
PATCHED = "_reads_forks"


class HybridFamily(Family):
    """Layers of attention get the visibility of the grid, those with a state the fork of the prompts' states."""

    forks_states: ClassVar[bool] = True
    layers: ClassVar[frozenset[str]] = Family.layers | KERNELS.keys()

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        read_forks(model.get_decoder())

    def masks(self, batch: Batch) -> Any:
        kinds = set(self.text_config.layer_types)
        seen = super().masks(batch)
        masks = dict(seen) if isinstance(seen, dict) else dict.fromkeys(kinds - KERNELS.keys(), seen)
        for kind in kinds & KERNELS.keys():
            masks[kind] = mask_with(fork_of(batch, getattr(self.text_config, KERNELS[kind]) - 1))
        return masks


def read_forks(decoder: nn.Module) -> None:
    """Let the layers with a state in a language model read a `Fork` that comes as their mask."""
    if PATCHED in vars(decoder):
        return
    setattr(decoder, PATCHED, True)
    for kind in {type(module) for module in decoder.modules()}:
        for ending, forked in FORKED.items():
            if kind.__name__.endswith(ending) and PATCHED not in vars(kind):
                _patch(kind, forked)


def _patch(kind: Any, forked: Callable[[Any, Tensor, Fork], Tensor]) -> None:
    plain = kind.forward

    def forward(
        self: Any, hidden_states: Tensor, *rest: Any, attention_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        fork = getattr(attention_mask, "fork", None)
        if fork is None:
            return plain(self, hidden_states, *rest, attention_mask=attention_mask, **options)
        caches = [options.get(name) for name in ("cache_params", "past_key_values")]
        assert caches == [None, None], "a fork is for training; generation forks its cache"
        return forked(self, hidden_states, fork)

    kind.forward = forward
    setattr(kind, PATCHED, True)
