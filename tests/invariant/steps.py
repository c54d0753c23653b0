"""One optimizer step of any objective on a tiny model, computed in any cut: its loss, gradient and metrics."""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.config import DataConfig, LoraConfig, ModelConfig
from sightline.data.render.corrupt import WithCorruptedImages
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.forward.reference import Reference
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.objectives.objective import Objective
from sightline.objectives.roles import CORRUPTED
from sightline.training.step.auxiliary import with_auxiliary
from sightline.training.step.metrics import Means, averages
from sightline.training.step.micro_batch import StepSettings
from sightline.training.step.step import train_step
from sightline.types import Group
from tests.objectives.every import EVERY, build_from
from tests.training.runs import pairs


@dataclass(frozen=True)
class Case:
    """A policy that has moved away from its reference, and the processor that makes its groups."""

    policy: nn.Module
    reference: Reference
    renderer: Renderer


@dataclass(frozen=True)
class Outcome:
    """What a step left behind. gradient: of all trained weights, in one row. state: BCO's sums."""

    loss: float
    gradient: Tensor
    metrics: dict[str, float]
    state: dict[str, float]


def case(folder: Path, dtype: torch.dtype) -> Case:
    """The tiny model of this folder with an adapter that is not neutral, in this precision."""
    config = ModelConfig(name=str(folder))
    model = load_model(config)
    torch.manual_seed(0)
    policy = add_lora(model, LoraConfig(r=4))
    reference = Reference(mode="frozen-copy", model=deepcopy(policy).to(dtype).eval())
    torch.manual_seed(1)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    return Case(policy.to(dtype).eval(), reference, Renderer(load_processor(config)))


def groups_of(objective: Objective, renderer: Renderer, num: int = 4) -> list[Group]:
    """Ragged groups with images as the objective reads them; some tokens weigh five times as much (DDPO)."""
    kind = "demonstrations" if objective.num_responses == 1 else "pairs"
    dataset: Any = GroupDataset(pairs(num, seed=3), DataConfig(), renderer, kind)
    if CORRUPTED in objective.roles:
        dataset = WithCorruptedImages(dataset)
    groups = [dataset[index] for index in range(num)]
    return [replace(group, weights=tuple(_heavier(weight) for weight in group.weights)) for group in groups]


def _heavier(weight: Tensor) -> Tensor:
    return torch.where(torch.arange(len(weight)) % 3 == 1, 5 * weight, weight)


def step(
    made: Case, name: str, *, groups_per_forward: int = 4, layout: str = "prefix", model: nn.Module | None = None,
    processes: Any = None, groups: list[Group] | None = None,
) -> Outcome:  # fmt: skip
    """One step of the objective. model: the policy as an engine wraps it. processes: of `tests.invariant.processes`;
    each then has its share of the groups. groups: to step on, of `groups_of` where left out."""
    objective = build_from(EVERY[name])
    groups = groups_of(objective, made.renderer) if groups is None else groups
    settings = StepSettings(
        family=family_of(made.policy),
        layout=layout,
        groups_per_forward=groups_per_forward,
        device=torch.device("cpu"),
        **({} if processes is None else processes.settings(model)),
    )
    share = groups if processes is None else processes.share(groups)
    auxiliary = partial(with_auxiliary, gather=settings.gather, process_index=settings.process_index)
    means, state = Means(), objective.initial_state()
    made.policy.zero_grad()
    loss = train_step(
        model if model is not None else made.policy,
        auxiliary(share, objective.roles),
        objective,
        made.reference if objective.needs_reference else None,
        settings,
        state=state,
        backward=lambda loss: loss.backward(),
        means=means,
    )
    gradient = torch.cat([p.grad.flatten() for p in made.policy.parameters() if p.grad is not None])
    metrics = averages(settings.gather(means.totals()))
    mean_loss = sum(settings.gather(float(loss))) / settings.num_processes
    return Outcome(mean_loss, gradient.clone(), metrics, {key: float(value) for key, value in state.items()})
