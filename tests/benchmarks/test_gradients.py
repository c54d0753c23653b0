"""The same answers through TRL's GRPOTrainer and through `sightline train`: the same gradient, weight by weight.

One step from an adapter that is not zero, so that policy and reference differ and a KL term has a gradient.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.step import sightline_program, trl_program
from benchmarks.step.case import Case, Program
from benchmarks.step.plan import case_of
from benchmarks.step.rollouts import FixedSampler
from benchmarks.step.rows import write_rows
from benchmarks.step.shapes import build, read_processor
from transformers import TrainerCallback

from sightline.training.online import setup as online_setup

Gradients = dict[str, torch.Tensor]
BETA = 2.0
"""Large, so that the KL term is a good part of the gradient."""


class FirstGradient(TrainerCallback):
    """Fills the adapter before the first step, and keeps the gradient of that step, as it is before clipping."""

    def __init__(self) -> None:
        self.clipped: Gradients = {}
        self.norm = 0.0

    def on_train_begin(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)

    def on_pre_optimizer_step(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
        self.clipped = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.norm = logs.get("grad_norm", self.norm)

    @property
    def gradient(self) -> Gradients:
        """What was clipped to norm 1, made as long again as it was."""
        return {name: value * max(self.norm, 1.0) for name, value in self.clipped.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model with its processor and the data of two prompts, four answers each."""
    folder = tmp_path_factory.mktemp("gradients")
    built = build("smolvlm-toy", (2, 3), "cpu")
    built.model.save_pretrained(folder)
    built.processor.save_pretrained(folder)
    write_rows(_case(0.0), read_processor(folder), folder / "rows.parquet")
    return folder


def _case(beta: float) -> Case:
    return case_of("grpo-no-kl", "sightline", toy=True, steps=1, responses=4, groups=2, beta=beta)


@pytest.fixture(scope="module")
def gradient(folder: Path):
    """Of a program's first step at a weight of the KL term."""

    @cache
    def run(program: Program, beta: float) -> Gradients:
        ours, kept = program == "sightline", FirstGradient()
        case = replace(_case(beta), program=program, forward_groups=1 if ours else 2)
        used: Any = sightline_program if ours else trl_program
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(online_setup, "build_sampler", lambda *given: FixedSampler(given[3].tokenizer))
            used.train(case, *used.load(case, folder), folder / "rows.parquet", [kept])
        return kept.gradient

    return run


def furthest(ours: Gradients, theirs: Gradients) -> float:
    """The largest difference of a weight's gradient, over that tensor's largest gradient; the worst of all tensors."""
    assert ours.keys() == theirs.keys() and len(ours) > 10
    assert all(value.abs().max() > 0 for value in theirs.values())
    return max(float((ours[n] - theirs[n]).abs().max() / theirs[n].abs().max()) for n in theirs)


@pytest.mark.parametrize("beta", [0.0, BETA], ids=["no KL", "ratio-corrected KL"])
def test_every_weights_gradient_is_that_of_trl(gradient, beta):
    assert furthest(gradient("sightline", beta), gradient("trl", beta)) < 1e-4


def test_the_kl_term_is_a_good_part_of_the_gradient(gradient):
    """Or the comparison with one would say no more than that without."""
    assert furthest(gradient("sightline", 0.0), gradient("trl", BETA)) > 0.3
