"""A step that runs out of memory is cut finer and done again: another cut, the same curve."""

import itertools
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.errors import OutOfMemory
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.training.checkpoint.files import load_state
from sightline.training.step.memory import cut, finer_limit, tokens_in_grid, told
from sightline.training.step.micro_batch import StepSettings, cut_step
from sightline.types import Group
from tests.training.allocator import room_for
from tests.training.runs import curve, lines, pairs, run

FIGURES = ("loss", "grad_norm", "rewards/margins", "logps/chosen", "num_tokens")
STEPS = {"max_steps": 4, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def rows():
    return pairs(16)


@pytest.fixture(scope="module")
def enough(tmp_path_factory, tiny_model, rows):
    """A run with enough memory, and how many tokens its forwards held."""
    folder = tmp_path_factory.mktemp("enough") / "run"
    with room_for(float("inf")) as allocator:
        run(folder, tiny_model("llava"), rows, **STEPS)
    return folder, allocator.served


def group_of(prompt: int, answer: int) -> Group:
    ids = torch.zeros(answer, dtype=torch.long)
    zeros = torch.zeros(prompt, dtype=torch.long)
    return Group(id="a", prompt_ids=zeros, responses=(ids,), weights=(torch.ones(answer),))


def saved(checkpoint: Path) -> dict:
    return load_state(checkpoint / "process-0.safetensors")["state"]


def same_curve(one: Path, other: Path) -> None:
    for name in FIGURES:
        assert curve(one, name) == pytest.approx(curve(other, name), rel=1e-5, abs=1e-5), name
    assert len(curve(one)) == len(curve(other)) > 0


def test_no_micro_batch_of_a_mixture_of_experts_holds_more_than_the_limit(loaded):
    """Its router loss is over all tokens, so each response is fed one token more."""
    experts = loaded("qwen3_vl_moe")
    family = family_of(experts.model)
    groups = [experts.group(seed=seed, lengths=(3, 5)) for seed in range(4)]
    one = len(groups[0].prompt_ids) + 8
    for limit, sizes in ((2 * one, [2, 2]), (2 * one - 1, [1, 1, 1, 1])):
        settings = StepSettings(layout="prefix", family=family, groups_per_forward=4, device=torch.device("cpu"))
        micro_batches = cut_step(groups, settings, limit)
        assert [len(micro) for micro in micro_batches] == sizes
        for micro in micro_batches:
            assert prefix.lay_out([family.place(group) for group in micro]).input_ids.numel() <= limit


@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
def test_a_run_that_runs_out_has_the_curve_of_one_that_does_not(tmp_path, tiny_model, rows, enough, in_backward):
    folder, whole = enough
    with room_for(max(whole) // 2, in_backward=in_backward) as allocator:
        run(tmp_path / "run", tiny_model("llava"), rows, **STEPS)
    assert allocator.ran_out >= 1
    assert len(allocator.served) > len(whole) and max(allocator.served[-4:]) <= max(whole) // 2
    same_curve(tmp_path / "run", folder)


@pytest.mark.parametrize("objective", [{"type": "aot"}, {"type": "bco_pair", "running_shift": True}])
def test_so_has_an_objective_over_the_whole_step_and_its_state_moves_once(tmp_path, tiny_model, rows, objective):
    options = {**STEPS, "objective": objective, "save_steps": 4}
    with room_for(float("inf")) as enough:
        run(tmp_path / "enough", tiny_model("llava"), rows, **options)
    with room_for(max(enough.served) // 2, in_backward=True) as allocator:
        run(tmp_path / "run", tiny_model("llava"), rows, **options)
    assert allocator.ran_out >= 1
    same_curve(tmp_path / "run", tmp_path / "enough")
    one, other = (saved(tmp_path / name / "checkpoint-4")["objective"] for name in ("run", "enough"))
    assert bool(one) == (objective["type"] == "bco_pair") and one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in other)


def test_the_new_limit_is_logged_saved_and_used_after_resume(tmp_path, tiny_model, rows, enough):
    folder, whole = enough
    with room_for(max(whole) // 2):
        run(tmp_path / "run", tiny_model("llava"), rows, **STEPS, save_steps=2)
    events = [line for line in lines(tmp_path / "run") if line.get("event") == "out of memory"]
    limit = events[-1]["token_limit"]
    assert limit <= max(whole) // 2 + 1 and events[0]["step"] == 1
    logged = [line["token_limit"] for line in lines(tmp_path / "run") if "loss" in line]
    assert logged == [limit] * 4
    assert saved(tmp_path / "run" / "checkpoint-2")["memory"]["token_limit"] == limit
    (tmp_path / "run" / "sightline.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    with room_for(max(whole) // 2) as allocator:
        run(tmp_path / "run", tiny_model("llava"), rows, **STEPS, save_steps=2, resume=True)
    assert allocator.ran_out == 0, "the limit of the checkpoint holds"
    assert max(allocator.served) <= limit, "what is promised is held, padding included"
    same_curve(tmp_path / "run", folder)


def test_dropout_draws_the_same_masks_when_a_step_is_done_again(tmp_path, tiny_model, rows):
    """The second cut is that of a run that was cut so from the start, and so are its random numbers."""
    options = {"lora": {"r": 4, "dropout": 0.2}, "max_steps": 2}
    finer = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    with room_for(float("inf")) as one_by_one:
        run(tmp_path / "finer", tiny_model("llava"), rows, **options, **finer)
    with room_for(max(one_by_one.served)):
        run(tmp_path / "run", tiny_model("llava"), rows, **options)
    assert curve(tmp_path / "run")[0] == pytest.approx(curve(tmp_path / "finer")[0], abs=1e-5)


def test_a_single_row_that_does_not_fit_ends_with_advice_and_leaves_the_checkpoint_whole(tmp_path, tiny_model, rows):
    long = {**rows[0], "chosen": "red " * 300}
    mixed = [*rows[:4], *[long] * 4]
    options = {"shuffle": False, "per_device_train_batch_size": 2, "save_steps": 1, "lora": {"r": 4}}
    with room_for(250), pytest.raises(OutOfMemory) as caught:
        run(tmp_path / "run", tiny_model("llava"), mixed, **options, max_steps=4)
    message = str(caught.value)
    assert "Step 3" in message and "a single row" in message and "rows:4" in message
    assert "--gradient-checkpointing" in message and "--resume" in message and "checkpoint-2" in message
    assert "\n" not in message
    assert not list((tmp_path / "run").glob("checkpoint-3"))
    changed = {**options, "gradient_checkpointing": True}
    run(tmp_path / "run", tiny_model("llava"), mixed, **changed, max_steps=4, resume=True)
    run(tmp_path / "whole", tiny_model("llava"), mixed, **options, max_steps=4)
    assert curve(tmp_path / "run") == pytest.approx(curve(tmp_path / "whole"), abs=1e-5)


def test_evaluation_is_cut_finer_too(tmp_path, tiny_model, rows, enough):
    options = {**STEPS, "data": {"val_size": 4}, "eval_steps": 2}
    run(tmp_path / "enough", tiny_model("llava"), rows, **options)
    with room_for(max(enough[1]) // 3) as allocator:
        run(tmp_path / "run", tiny_model("llava"), rows, **options, per_device_eval_batch_size=8)
    assert allocator.ran_out >= 1
    assert curve(tmp_path / "run", "eval_loss") == pytest.approx(curve(tmp_path / "enough", "eval_loss"), abs=1e-5)


def test_the_limit_halves_the_largest_micro_batch_that_can_be_cut():
    one, two = group_of(10, 5), group_of(20, 20)
    assert finer_limit([[one, one, one], [two]], shared_prefix=True) == 3 * (10 + 4) // 2
    assert finer_limit([[one, two], [two]], shared_prefix=False) == 2 * 40 // 2, "a short row is filled up"
    assert finer_limit([[one], [two]], shared_prefix=True) is None


def test_no_grid_of_several_groups_holds_more_than_the_limit_and_every_group_is_in_one():
    draw = random.Random(0)
    groups = [group_of(draw.randrange(5, 60), draw.randrange(1, 40)) for _ in range(40)]
    for shared_prefix, limit in itertools.product((True, False), (None, 300, 90, 10)):
        found = cut(groups, groups_per_forward=4, shared_prefix=shared_prefix, limit=limit)
        assert sorted(map(id, itertools.chain(*found))) == sorted(map(id, groups))
        most = min(limit or 10**9, 4 * max(tokens_in_grid([g], shared_prefix=shared_prefix) for g in groups))
        for some in found:
            placed = [
                replace(g, positions=torch.arange(len(g.prompt_ids)), block=-torch.ones_like(g.prompt_ids))
                for g in some
            ]
            grid = (prefix if shared_prefix else padded).lay_out(placed).input_ids.numel()
            assert grid == tokens_in_grid(some, shared_prefix=shared_prefix)
            assert grid <= most or len(some) == 1
    assert told([groups[:32], groups[:32], groups[:5]]) == "2 × 32 + 5"


def test_an_error_that_is_not_about_memory_goes_through(tmp_path, tiny_model, rows, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("sightline.training.step.step.reduce", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        run(tmp_path / "run", tiny_model("llava"), rows, **STEPS)
