"""Pair objectives on pairs of their own completions: what a step trains on, and that a stopped run goes on alike."""

import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from sightline.errors import RecipeError, RunFailed
from sightline.generation.sampling import Sampled
from sightline.recipe import normalise, structure
from sightline.training.online import pairs as online_pairs
from sightline.training.online.pairs import OnlinePairTrainer
from sightline.training.online.rollouts import Reuse, Rollout
from sightline.training.online.setup import pairs_of
from sightline.training.run import train
from sightline.types import Group
from tests.groups import make_group
from tests.training.runs import curve, lines
from tests.training.test_online import prompts, same, shortness, weights

pytestmark = pytest.mark.usefixtures("without_drawing")


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llava")


def recipe_of(folder: Path, model: Path, **changes):
    tree = {
        "model": str(model),
        "output_dir": str(folder),
        "max_steps": 3,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "lora": {"r": 4},
        "layout": "prefix",
        "objective": {"type": "dpo"},
        **changes,
    }
    tree["sampler"] = {"type": "transformers", "num_generations": 4, "max_completion_length": 5,
                       **changes.get("sampler", {})}  # fmt: skip
    tree["pairs"] = {"type": "judged", "keep_truncated": True, **changes.get("pairs", {})}
    return structure(normalise(tree))


def run(folder: Path, model: Path, *, reward=shortness, **changes):
    return train(recipe_of(folder, model, **changes), data=prompts(6), rewards=[reward], console=Console(quiet=True))


@pytest.mark.parametrize("objective", [{"type": "dpo"}, {"type": "ipo"}, {"type": "simpo"}, {"type": "mpo"}])
def test_a_pair_objective_with_rewards_trains_on_the_best_and_the_worst(tmp_path, model, objective, monkeypatch):
    seen = []
    real = OnlinePairTrainer._groups

    def watched(self, policy, rollouts):
        groups, indices = real(self, policy, rollouts)
        seen.append((rollouts, groups))
        return groups, indices

    monkeypatch.setattr(OnlinePairTrainer, "_groups", watched)
    result = run(tmp_path / "run", model, objective=objective, sampler={"completions_steps": 1})
    assert [line["step"] for line in lines(result.folder) if "loss" in line] == [1, 2, 3]
    for rollouts, groups in seen:
        by_prompt = {each.prompt.id: each for each in rollouts}
        for group in groups:
            each = by_prompt[group.id]
            best, worst = each.sampled[int(each.total.argmax())], each.sampled[int(each.total.argmin())]
            assert torch.equal(group.responses[0], best.ids) and torch.equal(group.responses[1], worst.ids)
    table = pq.read_table(tmp_path / "run" / "completions" / "completions_00001.parquet").to_pylist()
    marked = {mark: [row["reward"] for row in table if row["advantage"] == mark] for mark in (1.0, -1.0, 0.0)}
    assert min(marked[1.0]) > max(marked[-1.0]) and len(marked[1.0]) == len(marked[-1.0])
    assert all(m > 0 for m in curve(result.folder, "pairs/margin"))


def test_the_first_step_is_the_offline_step_on_the_same_pairs(tmp_path, model, monkeypatch):
    kept = []
    real = OnlinePairTrainer._groups
    monkeypatch.setattr(OnlinePairTrainer, "_groups", lambda self, *a: kept.append(real(self, *a)) or kept[-1])
    online = run(tmp_path / "online", model, max_steps=1, objective={"type": "dpo"})
    assert curve(online.folder)[0] == pytest.approx(math.log(2), abs=1e-6)
    # the same groups through the trainer's own step, as rows would be
    from sightline.training.trainer import AlignmentTrainer

    seen = []
    first = AlignmentTrainer.gradient_of

    def watched(self, policy, groups):
        seen.append(groups)
        return first(self, policy, groups)

    monkeypatch.setattr(AlignmentTrainer, "gradient_of", watched)
    run(tmp_path / "again", model, max_steps=1)
    assert [g.id for g in seen[0]] == [g.id for g in kept[0][0]] and all(len(g.responses) == 2 for g in seen[0])
    assert same(weights(online.folder), weights(tmp_path / "again"))


def test_pairs_are_learned_while_they_are_used_again(tmp_path, model):
    result = run(tmp_path / "run", model, max_steps=4, sampler={"num_iterations": 4}, lr_scheduler_type="constant")
    losses = curve(result.folder)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6) and losses == sorted(losses, reverse=True)
    assert curve(result.folder, "rewards/margins")[-1] > 0


def test_a_resumed_run_goes_on_with_the_pairs_it_had(tmp_path, model):
    options = {"max_steps": 4, "save_steps": 1, "lr_scheduler_type": "constant",
               "sampler": {"steps_per_generation": 2, "num_iterations": 2}}  # fmt: skip
    whole = run(tmp_path / "whole", model, **options)
    run(tmp_path / "part", model, **{**options, "max_steps": 3})
    run(tmp_path / "part", model, resume=True, **options)
    assert same(weights(whole.folder), weights(tmp_path / "part"))
    assert curve(whole.folder) == curve(tmp_path / "part")


def test_completions_that_all_earn_the_same_end_the_run_by_name(tmp_path, model, monkeypatch):
    monkeypatch.setattr(online_pairs, "EMPTY_ROUNDS", 2)
    with pytest.raises(
        RunFailed, match="2 rounds of sampling gave no pair: the completions of each prompt have the same"
    ):
        run(tmp_path / "run", model, reward=lambda completions, **_: [1.0] * len(completions))


def test_cut_off_completions_are_in_no_pair(loaded):
    llava = loaded("llava")
    group = replace(make_group(llava.processor), responses=(), weights=())
    prompt = type("P", (), {"group": group, "id": "p"})()
    sampled = [Sampled(ids=torch.tensor([i]), finished=i != 3) for i in range(4)]
    rollout = Rollout.__new__(Rollout)
    for name, value in {
        "prompt": prompt,
        "sampled": sampled,
        "texts": list("abca"),
        "total": torch.arange(4.0),
    }.items():
        object.__setattr__(rollout, name, value)
    trainer = OnlinePairTrainer.__new__(OnlinePairTrainer)
    config = pairs_of(recipe_of(Path("x"), Path("y")))
    trainer.pairs = replace(config, keep_truncated=False)
    assert [(one.chosen, one.rejected) for one in trainer._choices(rollout)] == [(2, 0)]
    trainer.pairs = config
    assert trainer._choices(rollout) == []  # the best and the worst are the same text


def test_a_round_is_split_as_evenly_as_can_be():
    reuse = Reuse(3, 2)
    assert reuse.is_used_up
    groups = [Group(id=str(i), prompt_ids=torch.tensor([i]), responses=(), weights=()) for i in range(7)]
    reuse.fill(groups, list(range(7)))
    taken = [[group.id for group in reuse.take()] for _ in range(6)]
    assert reuse.sizes == [2, 2, 3] and taken == 2 * [["0", "1"], ["2", "3"], ["4", "5", "6"]]
    assert reuse.is_used_up
    reuse.fill([], [])
    assert not reuse.is_used_up and reuse.take() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": {"length_tolerance": 0.3}}, "`pairs.length_tolerance` is for whole sets of pairs"),
        ({"pairs": {"type": "noisy_image"}}, "which a step cannot. Give `rounds`"),
        ({"rounds": 2}, "`rounds` are several runs"),
    ],
)
def test_what_a_step_cannot_do_is_refused(tmp_path, model, changes, said):
    with pytest.raises(RecipeError) as told:
        run(tmp_path / "run", model, **changes)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": {"type": "mdpo"}, "rewards": ["length"]}, "mDPO corrupts the image"),
        ({"rewards": ["length"], "data": {"streaming": True}}, "comes back to prompts"),
        ({"rewards": ["length"], "reference": {"type": "precomputed"}}, "samples its answers"),
        ({"reference": {"type": "last-round"}}, "the recipe has no `rounds`"),
        ({"objective": {"type": "sft"}, "pairs": {}, "rounds": 2}, "reads none"),
    ],
)
def test_recipes_that_cannot_be_are_refused(tmp_path, model, changes, said):
    with pytest.raises(RecipeError) as told:
        recipe_of(tmp_path, model, **changes)
    assert said in str(told.value)


def test_a_run_without_rewards_does_not_leave_its_sampler_unread(tmp_path, model):
    with pytest.raises(RecipeError, match="would do nothing"):
        train(recipe_of(tmp_path / "run", model), data=prompts(2), console=Console(quiet=True))
