"""The examples of docs/extending.md: an objective, a reward, a task and a sampler of one's own, by the real doors."""

import json
from pathlib import Path

import numpy as np
import pytest
from examples.own_objective import dpo_with_target
from examples.own_reward import names_color
from examples.own_sampler import FromColumn
from examples.own_task import rows as rows_task
from PIL import Image
from rich.console import Console

from sightline.cli.main import main
from sightline.errors import RecipeError, SamplerError
from sightline.models.families.find import FAMILIES
from sightline.recipe import load_recipe
from sightline.training.given import with_objects
from sightline.training.run import RunResult, train

EXAMPLES = Path(__file__).parents[2] / "examples"


def image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 48, 3), dtype=np.uint8))


def run(folder: Path, rows: list[dict], *flags: str) -> RunResult:
    common = ["--model", "embedded", "--output-dir", str(folder / "run"), "--lora", "--max-steps", "2"]
    batch = ["--per-device-train-batch-size", "2", "--logging-steps", "1", "--use-cpu"]
    return train(load_recipe(None, [*common, *batch, *flags]), data=rows, console=Console(quiet=True))


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def pairs() -> list[dict]:
    return [
        {"image": image(i), "question": "What is it?", "chosen": f"a red circle {i}", "rejected": "two blue squares"}
        for i in range(4)
    ]


def test_an_objective_of_ones_own_trains_as_the_built_in_one_does(tmp_path):
    own = f"{EXAMPLES / 'own_objective.py'}:dpo_with_target"
    for name, kind in (("own", own), ("dpo", "dpo")):
        (tmp_path / name).mkdir()
        run(tmp_path / name, pairs(), "--objective.type", kind)
    assert losses(tmp_path / "own") == losses(tmp_path / "dpo")
    (tmp_path / "target").mkdir()
    run(tmp_path / "target", pairs(), "--objective.type", own, "--objective.target", "0.5")
    assert losses(tmp_path / "target")[0] == pytest.approx(float(np.log1p(np.exp(0.5))), abs=1e-6)


def prompts() -> list[dict]:
    return [
        {"image": image(i), "question": "Which color?", "color": color, "drafts": ["It is red.", "blue", "It is green"]}
        for i, color in enumerate(["red", "green", None, "blue"])
    ]


def online(*flags: str) -> tuple[str, ...]:
    reward = f"{EXAMPLES / 'own_reward.py'}:names_color"
    sampler = f"{EXAMPLES / 'own_sampler.py'}:FromColumn"
    given = ("--objective.type", "grpo", "--rewards", reward, "--sampler.type", sampler)
    return (*given, "--sampler.num-generations", "3", "--shuffle", "false", *flags)


def test_a_sampler_and_a_reward_of_ones_own_train_a_policy(tmp_path):
    run(tmp_path, prompts(), *online("--sampler.importance-sampling", "none"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # one of three drafts is right for each color, and rows without one are not judged
    assert [line["reward"] for line in lines if "reward" in line] == pytest.approx([1 / 3, 1 / 3])


def test_objects_in_python_train_as_their_names_do(tmp_path):
    """A loss, a sampler, a reward and a task as objects give the figures that `my.py:NAME` gives."""
    flags = ["--model", "embedded", "--lora", "--max-steps", "2", "--per-device-train-batch-size", "2", "--use-cpu"]
    flags += ["--logging-steps", "1", "--shuffle", "false"]
    quiet = Console(quiet=True)
    for name in ("named", "given", "online named", "online given"):
        (tmp_path / name).mkdir()
    strong = ("--objective.beta", "0.7", "--shuffle", "false")
    run(tmp_path / "named", pairs(), "--objective.type", f"{EXAMPLES / 'own_objective.py'}:dpo_with_target", *strong)
    recipe = load_recipe(None, [*flags, "--objective.beta", "0.7", "--output-dir", str(tmp_path / "given" / "run")])
    image(0).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "a.png", "question": "Is it red?", "answer": "yes"}))
    scored = rows_task(tmp_path / "rows.jsonl")
    result = train(recipe, data=pairs(), objective=dpo_with_target, tasks=[scored], console=quiet)
    assert losses(tmp_path / "given") == losses(tmp_path / "named")
    assert any("accuracy" in name for name in result.metrics), result.metrics
    run(tmp_path / "online named", prompts(), *online("--sampler.importance-sampling", "none"))
    sampling = ["--objective.type", "grpo", "--sampler.type", "vllm", "--sampler.num-generations", "3"]
    sampling += ["--sampler.importance-sampling", "none", "--output-dir", str(tmp_path / "online given" / "run")]
    recipe = load_recipe(None, [*flags, *sampling])
    train(recipe, data=prompts(), sampler=FromColumn, rewards=[names_color], console=quiet)
    assert losses(tmp_path / "online given") == losses(tmp_path / "online named")


@pytest.mark.parametrize(
    "given, says",
    [
        ({"objective": 0.1}, "`objective` is a float"),
        ({"objective": lambda weights: weights}, "`objective` takes weights"),
        ({"sampler": 3}, "`sampler` is a int"),
        ({"tasks": ["pope"]}, "`tasks` holds a str"),
    ],
)
def test_objects_that_are_none_are_told(tmp_path, given, says):
    recipe = load_recipe(None, ["--model", "embedded", "--lora", "--output-dir", str(tmp_path / "run")])
    with pytest.raises(RecipeError, match=says):
        with_objects(recipe, **given)


@pytest.mark.parametrize(
    "flags, given, says",
    [
        (["--objective.label_smoothing", "0.2"], {"objective": dpo_with_target}, "sets `label_smoothing` of"),
        (["--objective.type", "grpo", "--rewards", "accuracy", "--sampler.type", "vllm", "--sampler.sleep", "false"],
         {"sampler": FromColumn}, "sets `sleep` of `type: vllm`"),
        ([], {"objective": max}, "`objective` takes nothing"),
    ],
)  # fmt: skip
def test_a_setting_that_an_object_does_not_have_is_refused(tmp_path, flags, given, says):
    recipe = load_recipe(None, ["--model", "embedded", "--lora", "--output-dir", str(tmp_path / "run"), *flags])
    with pytest.raises(RecipeError, match=says):
        with_objects(recipe, **given)


def test_a_sampler_without_log_probs_is_refused_where_they_are_needed(tmp_path):
    with pytest.raises(SamplerError, match="`log_probs` is missing"):
        run(tmp_path, prompts(), *online())


def test_an_option_that_a_sampler_does_not_have_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="has no option `colum`"):
        run(tmp_path, prompts(), *online("--sampler.importance-sampling", "none", "--sampler.colum", "drafts"))


def test_a_task_of_ones_own_is_scored_from_the_command_line(tmp_path, capsys):
    image(0).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": "Is there a circle?", "answer": word} for word in ("yes", "no")]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = f"{EXAMPLES / 'own_task.py'}:rows"
    data = str(tmp_path / "questions.jsonl")
    given = ["evaluate", "embedded", "--task", task, "--output", str(tmp_path / "out")]
    assert main([*given, "--data", data, "--json"]) == 0
    printed = capsys.readouterr().out
    # one and the same answer to one question with two truths: right once
    assert json.loads(printed)["rows"]["figures"]["all"]["accuracy"]["value"] == 50.0
    assert main(given) == 2
    assert "needs `--data`" in capsys.readouterr().err


@pytest.mark.parametrize("name, says", [("nothing", "has no `nothing`"), ("score", "no `Task`|missing|expected is")])
def test_what_is_no_task_is_told(tmp_path, capsys, name, says):
    assert main(["evaluate", "embedded", "--task", f"{EXAMPLES / 'own_task.py'}:{name}"]) in (2,)
    assert capsys.readouterr().err


def test_a_family_of_ones_own_trains_in_the_shared_prefix(tmp_path):
    own = f"{EXAMPLES / 'own_family.py'}:MyLlava"
    before = dict(FAMILIES)
    try:
        run(tmp_path, pairs(), "--model.family", own)
        assert FAMILIES["llava"].__name__ == "MyLlava"
    finally:
        FAMILIES.update(before)
    (tmp_path / "built in").mkdir()
    run(tmp_path / "built in", pairs())
    assert losses(tmp_path) == losses(tmp_path / "built in")


def test_what_is_no_family_is_told(tmp_path):
    with pytest.raises(RecipeError, match="is not a subclass"):
        run(tmp_path, pairs(), "--model.family", f"{EXAMPLES / 'own_task.py'}:score")
