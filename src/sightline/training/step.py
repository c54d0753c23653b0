"""One optimizer step: cut, forward, objective, backward.

The step is the unit: denominators are those of the whole step over all processes, so that neither the cut into
micro-batches nor the number of processes changes the gradient. Objectives over batch statistics (`whole_step`) first
score the whole step without gradient, are differentiated by log-prob, and are then replayed as Σ g·logp.
"""

from collections.abc import Callable

from torch import Tensor, nn

from sightline.objectives.objective import Objective, State
from sightline.policy.forward import reached_by_pictures
from sightline.policy.reference import AnyReference
from sightline.training.accumulate import Step, accumulate, counts_of
from sightline.training.metrics import Means
from sightline.training.micro_batch import StepSettings, cut_step, with_companions
from sightline.training.out_of_memory import together, until_it_fits
from sightline.training.whole_step import replayed
from sightline.types import Group


def train_step(
    model: nn.Module,
    groups: list[Group],
    objective: Objective,
    reference: AnyReference | None,
    settings: StepSettings,
    *,
    state: State,
    backward: Callable[[Tensor], None],
    means: Means,
) -> Tensor:
    """Accumulate the gradient of the step's loss in the parameters; returns this process's part of the loss, detached.

    `backward` is called once a micro-batch. `state` is the objective's (BCO's shift), changed in place. The loss is
    scaled by the number of processes, since engines average gradients over them. Metrics go to `means`. A step that
    runs out of memory is cut finer and done again; raises `OutOfMemory` where a single group is too large.
    """
    counts = settings.sum_over_processes(counts_of(objective, groups))
    step = Step(model, objective, reference, settings, counts, backward)
    before = dict(state)

    def undo() -> None:
        model.zero_grad(set_to_none=True)
        state.clear()
        state.update(before)

    def attempt(pieces: list[list[Group]]) -> tuple[Tensor, Means]:
        found = Means()
        if objective.whole_step:
            return replayed(step, pieces, state, found), found
        return together(settings.memory, lambda: accumulate(step, pieces, found)), found

    loss, found = until_it_fits(
        settings.memory,
        lambda limit: cut_step(groups, settings, limit),
        attempt,
        undo=undo,
        shared_prefix=settings.layout == "prefix",
    )
    if settings.average_gradients is not None:
        settings.average_gradients(model)
    if settings.spare is not None:
        _forget_pictures(groups, settings)
    means.take(found)
    return loss


def _forget_pictures(groups: list[Group], settings: StepSettings) -> None:
    """Take back the gradient of zero that FSDP2 wants of a trained tower, where no process had a picture.

    The optimizer then passes over it, as in one process; by momentum it would move.
    """
    here = any(settings.family.has_pictures(group) for group in with_companions(groups))
    if settings.sum_over_processes({"pictures": float(here)})["pictures"] == 0:
        for weight in reached_by_pictures(settings.family):
            weight.grad = None
