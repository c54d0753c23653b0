"""What a forward and a backward hold in memory besides weights, gradients and optimiser states.

Nothing is guessed: Sightline's own forward (`forward.features`, `forward.forward`) and its backward run on a model
without data, and a ledger adds up what lives. Two short models, of a few layers each, say what a layer costs; the rest
is a straight line, exact because layers repeat.

Left out: workspaces inside kernels, the allocator's rounding, and what a CUDA context takes for itself.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from sightline.forward.features import ELEMENTS_A_CALL, Features, encode
from sightline.forward.forward import log_probs, output_head
from sightline.layout import padded, prefix
from sightline.memory.ledger import Ledger, Phase, without_data
from sightline.memory.once import traced_once
from sightline.memory.skeleton import Skeleton, decoder_layers
from sightline.models.families.find import family_of
from sightline.models.unwrap import unwrap
from sightline.types import Group


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes of one micro-batch, above weights and gradients.

    features: the images' features, kept while the micro-batch lives. copies: trained weights once more, in autocast's
    precision. layers: what the language model's layers keep for backward. head: what the log-prob head keeps.
    encoding, forward, backward: the most that lives while images are encoded, in the forward, in the backward.
    forward_copies, backward_copies: how much of that is copies of weights.
    """

    features: int
    copies: int
    layers: int
    head: int
    encoding: int
    forward: int
    backward: int
    forward_copies: int
    backward_copies: int

    @property
    def peak(self) -> int:
        return max(self.encoding, self.forward, self.backward)

    @property
    def working(self) -> int:
        """What lives at the peak besides what is kept: one layer's or the head's intermediate results."""
        return self.peak - self.features - self.copies - self.layers - self.head


def measure_activations(
    skeleton: Skeleton, group: Group, *, layout: str, autocast: torch.dtype | None
) -> tuple[Activations, Activations]:
    """What micro-batches of one and of two groups like this one take; any other lies on the line through them.

    group: placed. The skeleton's weights become fake ones; it can still be counted, but not measured again.
    """
    layers = list(decoder_layers(skeleton.policy))
    step = Step(skeleton.policy, group, layout=layout, autocast=autocast)
    one, two = (step.run(layers[: skeleton.few], num_groups) for num_groups in (1, 2))
    if skeleton.few < skeleton.num_layers:
        longer = step.run(layers[: skeleton.more], 1)
        steps = (skeleton.num_layers - skeleton.few) / (skeleton.more - skeleton.few)
        one, two = extrapolate(one, longer, steps), extrapolate(two, with_layers(two, one, longer), steps)
    unwrap(skeleton.policy).get_decoder().layers = nn.ModuleList(layers)
    return one, two


def with_layers(two: Activations, one: Activations, longer: Activations) -> Activations:
    """What two groups take with the layers that one group takes `longer` instead of `one` with.

    Copies of weights serve both groups; all else that a layer holds is there twice.
    """
    change = {f.name: getattr(longer, f.name) - getattr(one, f.name) for f in fields(Activations)}
    once = {name: change[name] for name in ("copies", "forward_copies", "backward_copies")}
    once |= {"forward": change["forward_copies"], "backward": change["backward_copies"]}
    return Activations(**{n: getattr(two, n) + 2 * d - once.get(n, 0) for n, d in change.items()})


class Step:
    """Micro-batches on a model without data."""

    def __init__(self, model: nn.Module, group: Group, *, layout: str, autocast: torch.dtype | None) -> None:
        self.model, self.group = model, group
        self.lay_out = prefix.lay_out if layout == "prefix" else padded.lay_out
        self.autocast = autocast
        self.mode = without_data(model)
        self.features, self.encoding = self._encode()

    def precision(self) -> AbstractContextManager:
        """As training has it: without a cache of weights."""
        return nullcontext() if self.autocast is None else torch.autocast("cpu", self.autocast, cache_enabled=False)

    def _encode(self) -> tuple[Features | None, Phase]:
        """The features of one group, and what lived meanwhile."""
        ledger = Ledger(self.mode, self.model)
        with ledger, ledger.phase() as encoding, self.precision():
            features = encode(self.model, [self.group])
        return features, encoding

    def encoding_peak(self, num_groups: int) -> int:
        """The most that lives while the images of so many groups are encoded."""
        pixels = max(1, family_of(self.model).num_pixels(self.group))
        at_a_time = min(num_groups, max(1, ELEMENTS_A_CALL // pixels))
        return self.encoding.end * (num_groups - at_a_time) + self.encoding.peak * at_a_time

    def run(self, layers: list[nn.Module], num_groups: int) -> Activations:
        """Forward and backward of so many groups with these layers in the language model."""
        unwrap(self.model).get_decoder().layers = nn.ModuleList(layers)
        ledger = Ledger(self.mode, self.model)
        groups = [self.group] * num_groups
        head = output_head(family_of(self.model))
        with ledger:
            for weight in self.model.parameters():
                # counted with the weights: every micro-batch but a step's first finds them there
                weight.grad = torch.empty_like(weight) if weight.requires_grad else None
            start = ledger.live
            features = self._copies_of_features(num_groups)
            kept_features = ledger.live - start
            with traced_once(self.model, ledger):
                with ledger.phase() as forward, self.precision(), _kept_by(head, ledger) as kept_by_head:
                    scored = log_probs(
                        self.model, self.lay_out(groups), groups=groups, features=features, statistics=True
                    )
                copies = ledger.copies
                loss = scored.logp.sum()
                with ledger.phase() as backward:
                    loss.backward()
        return Activations(
            features=kept_features,
            copies=copies,
            layers=forward.end - start - kept_features - copies - kept_by_head[0],
            head=kept_by_head[0],
            encoding=self.encoding_peak(num_groups),
            forward=forward.peak - start,
            backward=backward.peak - start,
            forward_copies=forward.copies,
            backward_copies=backward.copies,
        )

    def _copies_of_features(self, number: int) -> Features | None:
        if self.features is None:
            return None
        (piece,) = self.features.pieces
        assert piece is not None
        pieces = [{name: value.clone() for name, value in piece.items()} for _ in range(number)]
        return replace(self.features, pieces=tuple(pieces))


@contextmanager
def _kept_by(module: nn.Module, ledger: Ledger) -> Iterator[list[int]]:
    """What a module's one call adds to what lives: the list's only number."""
    before: list[int] = []
    kept: list[int] = []
    hooks = (
        module.register_forward_pre_hook(lambda *_: before.append(ledger.live)),
        module.register_forward_hook(lambda *_: kept.append(ledger.live - before[0])),
    )
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def extrapolate(low: Activations, high: Activations, steps: float) -> Activations:
    """The straight line through two models, `steps` differences above the lower one."""
    values = {f.name: (getattr(low, f.name), getattr(high, f.name)) for f in fields(Activations)}
    return Activations(**{name: round(a + (b - a) * steps) for name, (a, b) in values.items()})
