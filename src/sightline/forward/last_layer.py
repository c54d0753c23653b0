"""The last layer of the language model computes only what is read of it.

After its attention, a token's state in the last layer goes nowhere but to the head, and the head reads those that
predict a target. So queries, output projection and MLP of the last layer are computed for them alone; keys and values
for all. What stands in the other places is zero, and no gradient comes back from there in the full computation either:
values and gradients are the same numbers. Of L layers about (1 − ΣC / (P + ΣC)) / L of the work goes.

Left out: layers whose parts are not the usual projections (experts: a router's loss is over all tokens), layers that
are recomputed in backward (it would come after the parts have their own `forward` again), compiled models.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from sightline.models.families.family import Family
from sightline.transfer import move_together
from sightline.types import Batch

MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
"""What the MLP of a dense layer consists of, token by token."""


@contextmanager
def only_what_is_read(family: Family, batch: Batch) -> Iterator[None]:
    """Within, the last layer computes the states that predict a target of this batch."""
    parts = _parts(family)
    (rows,) = move_together([batch.on_host.predictor.unique()], batch.predictor.device)
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(replaced_forward(part, _on_rows(part.forward, rows)))
        yield


def _parts(family: Family) -> list[nn.Module]:
    """The modules of the last layer that work token by token on what nobody else reads; none where that is unknown."""
    decoder: Any = family.model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        return []
    last = layers[-1]
    if last.training and getattr(last, "gradient_checkpointing", False):
        return []
    mlp, attention = getattr(last, "mlp", None), getattr(last, "self_attn", None)
    if mlp is None or attention is None or {name for name, _ in mlp.named_children()} != MLP_PARTS:
        return []
    query, output = getattr(attention, "q_proj", None), getattr(attention, "o_proj", None)
    return [mlp] if query is None or output is None else [query, output, mlp]


def _on_rows(compute: Callable[..., Tensor], rows: Int[Tensor, " read"]) -> Callable[..., Tensor]:
    """The function on some tokens of [..., n]; zero for the others."""

    def forward(states: Float[Tensor, "*grid n"], *args: Any, **kwargs: Any) -> Float[Tensor, "*grid m"]:
        found = compute(states.flatten(0, -2)[rows], *args, **kwargs)
        whole = found.new_zeros(states.shape[:-1].numel(), found.shape[-1]).index_copy(0, rows, found)
        return whole.unflatten(0, states.shape[:-1])

    return forward


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within, calling the module calls this function; what it had of its own comes back."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
