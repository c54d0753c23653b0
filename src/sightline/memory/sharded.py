"""What a process holds besides its share where FSDP2 shards a model: what is gathered, and gradients still whole.

As accelerate cuts a model for torch's `fully_shard`, each part in the precision in which it is stored: layers of the
language model are gathered one at a time, the next while one is at work; the output head from the end of a forward to
its backward, or all the time where it is the input embedding too; what is left over (a trained tower or projector,
norms, layers of a second kind) all the time. A part's gradient is whole until its backward is done, then once more in
the buffer that is summed over processes, which is let go when the next part's is filled.
"""

from collections.abc import Iterable

from torch import Tensor

from sightline.forward.forward import output_head
from sightline.memory.estimate import Line, What
from sightline.memory.skeleton import Skeleton, decoder_layers
from sightline.models.families.find import family_of


def sharded_lines(skeleton: Skeleton) -> list[Line]:
    """Lines besides those of one process, whose activations have room for one weight's gradient."""
    family, layers = family_of(skeleton.policy), decoder_layers(skeleton.policy)
    gathered_alone = [list(one.parameters()) for one in layers if type(one) is type(layers[0])]
    layer = max(gathered_alone, key=stored)
    head = output_head(family).weight
    tied = head is family.model.get_input_embeddings().weight
    rest = [*left_over(skeleton), head] if tied else left_over(skeleton)
    buffer = trained(layer) if tied else max(trained(layer), trained([head]))
    at_layer = [
        _line("activations", "two layers, gathered", 2 * stored(layer)),
        _line("gradients", "of a layer, and sent", trained(layer) + buffer),
    ]
    at_head = [_line("activations", "head and a layer", stored(layer) + (0 if tied else stored([head])))]
    always = [_line("activations", "rest, gathered", stored(rest)), _line("gradients", "of the rest", trained(rest))]
    lines = [*always, *max(at_layer, at_head, key=lambda lines: sum(line.bytes for line in lines))]
    return [line for line in lines if line.bytes]


def left_over(skeleton: Skeleton) -> list[Tensor]:
    """Weights that are sharded but belong to no layer like the first, nor to the output head or the input embedding."""
    family, layers = family_of(skeleton.policy), decoder_layers(skeleton.policy)
    apart = [one for one in layers if type(one) is type(layers[0])]
    apart += [output_head(family), family.model.get_input_embeddings()]
    taken = {id(weight) for module in apart for weight in module.parameters()}
    times = {id(w): n for one, n in zip(layers, skeleton.stands_for, strict=True) for w in one.parameters()}
    return [
        weight
        for name, weight in family.model.named_parameters()
        if id(weight) not in taken and (weight.requires_grad or family.part_of(name) not in ("vision", "projector"))
        for _ in range(times.get(id(weight), 1))
    ]


def stored(weights: Iterable[Tensor]) -> int:
    """Bytes of weights."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


def trained(weights: Iterable[Tensor]) -> int:
    """Bytes of their gradients, in float32."""
    return 4 * sum(weight.numel() for weight in weights if weight.requires_grad)


def _line(what: What, part: str, size: int) -> Line:
    return Line(what=what, part=part, formula=f"{size:,}, whole on every GPU", bytes=size)
