"""The benchmark runs, and what it compares is the same training: at toy size, each program in a process of its own."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from benchmarks.step.case import Measured, Program
from benchmarks.step.plan import case_of
from benchmarks.step.ratios import gate, tower_passes
from benchmarks.step.runner import measure


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    out: Path = tmp_path_factory.mktemp("benchmarks")

    @cache
    def runner(setting: str, program: Program) -> Measured:
        return measure(case_of(setting, program, toy=True, steps=4, threads=1, count_flops=True), out)

    return runner


@pytest.mark.parametrize("setting", ["dpo", "grpo"])
def test_sightline_and_trl_take_the_same_steps(run, setting):
    ours, theirs = run(setting, "sightline"), run(setting, "trl")
    assert gate(ours, theirs).holds
    assert len(set(ours.losses)) == 4  # four different steps, not one of them four times


def test_the_gate_fails_where_the_adapter_went_another_way(run):
    ours = run("dpo", "sightline")
    for wrong in (replace(ours, way=run("grpo", "sightline").way), replace(ours, way=[0.97 * x for x in ours.way])):
        assert not gate(wrong, ours).holds
    assert gate(ours, ours).way == 0


@pytest.mark.parametrize("setting, passes", [("dpo", 4), ("grpo", 16)])
def test_each_image_passes_the_tower_once_here_and_once_a_response_and_model_in_trl(run, setting, passes):
    assert tower_passes(case_of(setting, "sightline", toy=True, steps=4), run(setting, "sightline")) == 1
    assert tower_passes(case_of(setting, "trl", toy=True, steps=4), run(setting, "trl")) == passes


def test_sightline_computes_fewer_tokens_and_floating_point_operations(run):
    ours, theirs = run("grpo", "sightline"), run("grpo", "trl")
    assert max(ours.language_tokens) < min(theirs.language_tokens) / 3
    assert 3 * sum(ours.flops.values()) < sum(theirs.flops.values())
