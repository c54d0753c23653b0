"""Online runs on a tiny model: what is sampled, judged, logged and trained on, and that a stopped run goes on alike."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from sightline.errors import DataError, RecipeError, RewardError
from sightline.recipe import normalise, structure
from sightline.rewards.reward_set import is_logged_by_runs
from sightline.training.online.trainer import OnlineTrainer
from sightline.training.run import RunResult, train
from tests.training.runs import curve, lines

METRICS = {
    "loss", "grad_norm", "learning_rate", "entropy", "num_tokens", "reward", "reward_std", "frac_reward_zero_std",
    "rewards/shortness/mean", "rewards/shortness/std", "completions/mean_length", "completions/min_length",
    "completions/max_length", "completions/clipped_ratio", "clip_ratio/low_mean", "clip_ratio/high_mean",
    "clip_ratio/region_mean", "seconds/wait", "seconds/generate", "seconds/reward", "seconds/update", "memory/cpu",
}  # fmt: skip


def shortness(completions, **columns):
    return [-len(completion) / 10 for completion in completions]


def prompts(count: int) -> list[dict]:
    draw = np.random.default_rng(0)
    return [
        {
            "image": Image.fromarray(draw.integers(0, 255, (50, 70, 3), dtype=np.uint8)),
            "question": f"What is in image {i}?",
            "solution": str(i),
        }
        for i in range(count)
    ]


def run(folder: Path, model: Path, rows, *, reward=shortness, callbacks=(), **changes) -> RunResult:
    tree = {
        "model": str(model),
        "output_dir": str(folder),
        "max_steps": 3,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "lora": {"r": 4},
        "layout": "prefix",
        **changes,
    }
    tree["objective"] = {"type": "grpo", **changes.get("objective", {})}
    sampler = {"type": "transformers", "num_generations": 4, "max_completion_length": 5}
    tree["sampler"] = {**sampler, **changes.get("sampler", {})}
    recipe = structure(normalise(tree))
    return train(recipe, data=rows, rewards=[reward], callbacks=callbacks, console=Console(quiet=True))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def rows():
    return prompts(6)


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llava")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model, rows):
    folder = tmp_path_factory.mktemp("online") / "run"
    options = {"sampler": {"completions_steps": 2}, "eval_steps": 3, "evaluation": {"best": "eval_reward"}}
    return run(folder, model, rows, data={"val_size": 2}, **options)


def test_every_step_logs_what_trl_logs_and_where_the_time_went(finished):
    steps = [line for line in lines(finished.folder) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert all(line.keys() >= METRICS for line in steps)
    spent = ("seconds/wait", "seconds/generate", "seconds/reward", "seconds/update")
    assert all(line[name] >= 0 for line in steps for name in spent) and steps[0]["seconds/update"] > 0
    assert all(is_logged_by_runs(name) for line in lines(finished.folder) for name in line), "no reward may log these"


def test_held_out_prompts_are_answered_greedily_once(finished):
    held_out = [line for line in lines(finished.folder) if "eval_reward" in line]
    assert [line["step"] for line in held_out] == [3]
    assert held_out[0]["eval_rewards/shortness/mean"] == pytest.approx(held_out[0]["eval_reward"])
    assert "eval_reward_std" not in held_out[0]
    best = json.loads((finished.folder / "best" / "sightline.json").read_text())
    assert (best["step"], best["eval_reward"]) == (3, held_out[0]["eval_reward"])


def test_answers_are_kept_in_a_table_with_rewards_advantages_and_images(finished):
    (path,) = (finished.folder / "completions").iterdir()
    assert path.name == "completions_00002.parquet"
    table = pq.read_table(path).to_pylist()
    assert len(table) == 2 * 4
    row = table[0]
    assert row["step"] == 2 and row["prompt"].startswith("What is in image")
    assert row["reward"] == row["rewards/shortness"] == pytest.approx(-len(row["completion"]) / 10)
    assert sum(one["advantage"] for one in table) == pytest.approx(0, abs=1e-4)
    assert row["image"]["bytes"].startswith(b"\x89PNG")


def test_the_reward_rises(tmp_path, model, rows):
    """From random weights it is easy to say one half of the vocabulary only."""

    def low_ids(completion_ids, **columns):
        return [float(np.mean([token < 250 for token in ids])) for ids in completion_ids]

    options = {"lora": None, "learning_rate": 3e-2, "lr_scheduler_type": "constant", "max_steps": 12}
    run(tmp_path / "run", model, rows, reward=low_ids, sampler={"num_generations": 16}, **options)
    rewards = curve(tmp_path / "run", "reward")
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(tmp_path, model, rows, finished):
    runs = [
        run(tmp_path / str(i), model, rows, max_steps=2, seed=seed, dataloader_num_workers=workers)
        for i, (seed, workers) in enumerate([(1, 0), (1, 2), (2, 0)])
    ]
    assert same(weights(runs[0].folder), weights(runs[1].folder))
    assert not same(weights(runs[0].folder), weights(runs[2].folder))


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        ({"type": "grpo", "beta": 0.04}, {}),
        ({"type": "dr_grpo"}, {"temperature": 0.7}),
        ({"type": "dapo", "overlong_buffer": 2}, {"dynamic_sampling_rounds": 2}),
        ({"type": "bnpo", "scale_rewards": "batch"}, {"num_iterations": 2}),
        ({"type": "gspo"}, {"steps_per_generation": 2, "num_iterations": 2}),
        ({"type": "gspo_token"}, {"num_iterations": 2}),
        ({"type": "cispo"}, {"num_iterations": 2}),
        ({"type": "sapo"}, {"num_iterations": 2}),
        ({"type": "rloo"}, {"num_iterations": 2}),
        ({"type": "reinforce_pp", "beta": 0.01}, {}),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else None,
)
def test_every_online_objective_trains(tmp_path, model, rows, objective, sampler):
    result = run(tmp_path / "run", model, rows, objective=objective, sampler=sampler, max_steps=4)
    assert all(np.isfinite(curve(tmp_path / "run", name)).all() for name in ("loss", "grad_norm", "reward"))
    before = run(tmp_path / "start", model, rows, objective=objective, learning_rate=0.0, max_steps=1)
    assert not same(weights(result.folder), weights(before.folder))


def test_a_reference_that_follows_every_step_leaves_nothing_to_diverge_from(tmp_path, model, rows):
    options = {"objective": {"beta": 0.1}, "lr_scheduler_type": "constant"}
    run(tmp_path / "stays", model, rows, **options)
    run(tmp_path / "follows", model, rows, **options, reference={"update_every": 1, "update_weight": 1.0})
    assert curve(tmp_path / "stays", "kl")[2] > 1e-3
    assert max(curve(tmp_path / "follows", "kl")) < 1e-6


def test_gspo_is_grpo_while_answers_are_used_once_and_differs_once_they_are_reused(tmp_path, model, rows):
    def both(name, **sampler):
        for kind in ("grpo", "gspo"):
            run(tmp_path / f"{kind}-{name}", model, rows, objective={"type": kind}, sampler=sampler, max_steps=4)
        return [curve(tmp_path / f"{kind}-{name}", "grad_norm") for kind in ("grpo", "gspo")]

    once = both("once")
    assert once[0] == pytest.approx(once[1], rel=1e-4)
    reused = both("reused", num_iterations=2)
    assert reused[0][0] == pytest.approx(reused[1][0], rel=1e-4)
    assert reused[0][1] != pytest.approx(reused[1][1], rel=1e-2)
    clipped = [line["clip_ratio/region_mean"] for line in lines(tmp_path / "gspo-reused") if "loss" in line]
    assert clipped[0] == 0 and clipped[1] > 0


def test_a_step_split_in_two_and_gone_through_twice_samples_once_in_four_steps(tmp_path, model, rows):
    asked = []

    def counting(completions, **columns):
        asked.append(len(completions))
        return [float(len(c)) for c in completions]

    sampler = {"steps_per_generation": 2, "num_iterations": 2}
    run(tmp_path / "run", model, rows, reward=counting, sampler=sampler, max_steps=8)
    assert asked == [2 * 2 * 4] * 2
    ratios = curve(tmp_path / "run", "clip_ratio/region_mean")
    assert ratios[0] == 0 and len(ratios) == 8


def test_zero_variance_prompts_are_counted_and_make_room_if_asked(tmp_path, model, rows):
    def half_flat(completions, solution, **columns):
        return [0.0 if int(s) % 2 else float(len(c)) for c, s in zip(completions, solution, strict=True)]

    keeping = {"shuffle": False, "max_steps": 1, "reward": half_flat}
    run(tmp_path / "keep", model, rows, **keeping)
    assert curve(tmp_path / "keep", "frac_reward_zero_std") == [0.5]
    seen = []

    def watching(completions, solution, **columns):
        seen.extend(solution[::4])
        return half_flat(completions, solution)

    changed = {**keeping, "reward": watching}
    run(tmp_path / "swap", model, rows, **changed, sampler={"dynamic_sampling_rounds": 3, "completions_steps": 1})
    table = pq.read_table(tmp_path / "swap" / "completions" / "completions_00001.parquet").to_pylist()
    assert seen[:3] == ["0", "1", "2"]
    assert {row["row"] for row in table} == {"rows:0", "rows:2"}


STOPS = {"plain": {}, "reused": {"steps_per_generation": 2, "num_iterations": 2}}


@pytest.mark.parametrize("sampler", STOPS.values(), ids=STOPS.keys())
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, model, rows, sampler):
    options = {"max_steps": 5, "save_steps": 3, "sampler": sampler, "lr_scheduler_type": "constant"}
    whole = run(tmp_path / "whole", model, rows, **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("checkpoint-5", "sightline.json", "adapter_model.safetensors"):
        path = tmp_path / "cut" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    resumed = run(tmp_path / "cut", model, rows, **options, resume=True)
    assert same(weights(whole.folder), weights(resumed.folder))
    assert curve(tmp_path / "whole", "reward") == curve(tmp_path / "cut", "reward")


def test_a_reward_that_fails_leaves_a_checkpoint_from_which_the_run_goes_on(tmp_path, model, rows):
    calls = []

    def failing(completions, **columns):
        calls.append(1)
        if len(calls) > 3:
            raise KeyError("solution")
        return shortness(completions)

    failing.__name__ = "shortness"
    options = {"max_steps": 5, "lr_scheduler_type": "constant"}
    with pytest.raises(RewardError, match=r"Reward `shortness` raised KeyError.*on row rows:\d") as caught:
        run(tmp_path / "run", model, rows, reward=failing, **options)
    assert str(caught.value).splitlines()[0].endswith("Then go on from checkpoint-3 with --resume.")
    assert (tmp_path / "run" / "checkpoint-3" / "trainer_state.json").is_file()
    resumed = run(tmp_path / "run", model, rows, **options, resume=True)
    whole = run(tmp_path / "whole", model, rows, **options)
    assert same(weights(whole.folder), weights(resumed.folder))


def test_no_prompt_is_lost_or_repeated_within_an_epoch(tmp_path, model, rows):
    seen = []

    def watching(completions, solution, **columns):
        seen.extend(solution[::4])
        return shortness(completions)

    run(tmp_path / "run", model, rows, reward=watching, max_steps=6)
    assert sorted(seen[:6]) == sorted(seen[6:]) == [str(i) for i in range(6)]
    assert seen[:6] != seen[6:]


def test_epochs_count_prompts_and_iterations(tmp_path, model, rows):
    run(tmp_path / "run", model, rows, max_steps=-1, num_train_epochs=1, sampler={"num_iterations": 2})
    assert [line["step"] for line in lines(tmp_path / "run") if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_bad_rows_stop_the_run_or_are_skipped_and_counted(tmp_path, model, rows):
    bad = [*rows[:2], {"image": b"no image", "question": "What?", "solution": "0"}, *rows[2:]]
    with pytest.raises(DataError, match="row 2"):
        run(tmp_path / "stop", model, bad, shuffle=False)
    run(tmp_path / "skip", model, bad, shuffle=False, data={"on_bad_row": "skip"})
    assert curve(tmp_path / "skip", "rows_skipped")[-1] == 1


def test_an_online_objective_without_rewards_is_refused_before_anything_is_loaded(tmp_path):
    recipe = structure(normalise({"objective": {"type": "grpo"}, "output_dir": str(tmp_path / "run"), "model": "none"}))
    with pytest.raises(RecipeError, match=r"needs `rewards`"):
        train(recipe, data=[], console=Console(quiet=True))


@pytest.mark.parametrize("way", ["share_images", "streaming"])
def test_ways_of_reading_rows_that_prompts_cannot_have_are_refused_with_the_recipe(way):
    with pytest.raises(RecipeError, match=f"data.{way}.*`objective.type: grpo`.*Leave it out"):
        structure(normalise({"model": "none", "objective": "grpo", "data": {"source": "rows", way: True}}))


def test_the_padded_layout_gives_the_same_curve(tmp_path, model, rows):
    for layout in ("prefix", "padded"):
        run(tmp_path / layout, model, rows, layout=layout, sampler={"num_iterations": 2}, max_steps=2)
    assert curve(tmp_path / "prefix", "grad_norm") == pytest.approx(curve(tmp_path / "padded", "grad_norm"), rel=1e-3)


def test_conversational_rows_reach_rewards_as_messages(tmp_path, model, rows):
    seen = {}

    def look(completions, prompts, images, **columns):
        seen.update(completion=completions[0], prompt=prompts[0], size=images[0][0].size)
        return [0.0] * len(completions)

    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}
    chat = [{"prompt": [turn], "images": [row["image"]]} for row in rows]
    run(tmp_path / "run", model, chat, reward=look, max_steps=1)
    assert seen["completion"][0]["role"] == "assistant" and isinstance(seen["completion"][0]["content"], str)
    assert seen["prompt"] == [turn] and seen["size"] == (70, 50)


def test_sampling_and_training_see_the_same_distribution_at_any_temperature(tmp_path, model, rows, monkeypatch):
    """The ratio π/π_old is 1 before the first update only if both are taken at the sampling temperature."""
    agreed = []
    original = OnlineTrainer._score

    def watch(self, policy, groups):
        scored = original(self, policy, groups)
        agreed.extend(self.settings.temperature for one in scored if one.old is not None)
        return scored

    monkeypatch.setattr(OnlineTrainer, "_score", watch)
    run(tmp_path / "run", model, rows, sampler={"temperature": 0.6, "num_iterations": 2}, max_steps=2)
    assert agreed[0] == 0.6
    first = next(line for line in lines(tmp_path / "run") if "loss" in line)
    assert first["clip_ratio/region_mean"] == 0
    assert abs(first["loss"]) < 1e-5


def test_the_recipe_of_a_run_can_be_run_again(finished, tmp_path, rows):
    from sightline.recipe import load_recipe

    recipe = load_recipe(finished.folder / "recipe.yaml")
    again = replace(recipe, output_dir=str(tmp_path / "again"))
    train(again, data=rows, rewards=[shortness], console=Console(quiet=True))
    assert same(weights(finished.folder), weights(tmp_path / "again"))
    assert json.loads((tmp_path / "again" / "sightline.json").read_text())["steps"] == 3
