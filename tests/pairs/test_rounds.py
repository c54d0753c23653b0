"""Iterative training: rounds begin where the last one ended, are kept on disk, and go on where they were stopped."""

import json
import os
import signal
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from sightline.cli.main import main
from sightline.errors import RecipeError, UserError
from sightline.pairs import rounds
from sightline.pairs.rounds import train_rounds
from sightline.recipe import dump_recipe, load_recipe, normalise, structure
from tests.pairs.test_make import PAIRS, SAMPLER, images, model  # noqa: F401
from tests.training.runs import figures

pytestmark = pytest.mark.usefixtures("without_drawing")


def recipe_of(folder: Path, model: Path, source: Path, **changes):  # noqa: F811
    tree = {
        "model": str(model),
        "data": str(source),
        "output_dir": str(folder),
        "sampler": SAMPLER,
        "rewards": {"self_check": {"question": "Is it so? {claim}", "answers": ["yes", "no"]}},
        "pairs": PAIRS,
        "rounds": 2,
        "objective": {"type": "dpo"},
        "reference": "last-round",
        "lora": {"r": 4},
        "learning_rate": 1e-2,
        "max_steps": 2,
        "save_steps": 1,
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "layout": "prefix",
        **changes,
    }
    return structure(normalise(tree))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model, images):  # noqa: F811
    folder = tmp_path_factory.mktemp("rounds") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.training.checkpoint.finish.draw_curves", lambda *_: [])
        train_rounds(recipe_of(folder, model, images), console=Console(quiet=True))
    return folder


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_round_begins_with_the_model_and_the_reference_that_the_last_one_ended_with(finished):
    second, asked = (load_recipe(finished / "round-2" / place / "recipe.yaml") for place in ("run", "pairs"))
    assert second.lora is not None and second.lora.adapter == str(finished / "round-1" / "run")
    assert second.reference.type == "auto" and asked.lora == second.lora
    first = [json.loads(line) for line in (finished / "round-2" / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in first if "loss" in line]
    assert losses[0] == pytest.approx(0.6931, abs=1e-4), "policy and reference are the same at the start of a round"
    moved = [load_file(finished / f"round-{n}" / "run" / "adapter_model.safetensors") for n in (1, 2)]
    assert any(not (moved[0][name] == moved[1][name]).all() for name in moved[0])


def test_the_folder_ends_as_the_last_rounds_run_with_a_table_of_all(finished):
    assert weights(finished) == weights(finished / "round-2" / "run")
    assert load_recipe(finished / "recipe.yaml").rounds == 2
    table = json.loads((finished / "rounds.json").read_text())
    assert [row["round"] for row in table] == [1, 2] and all(row["pairs"] > 0 and row["score"] for row in table)
    report = (finished / "report.html").read_text()
    assert "round-2/pairs/pairs.html" in report and (finished / "round-2" / "pairs" / "pairs.html").is_file()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rounds_killed_anywhere_go_on_to_the_same_bits(tmp_path, finished, model, images):  # noqa: F811
    folder = tmp_path / "run"
    events = ((rounds, "make_pairs", 1), (rounds, "train", 2), (rounds, "_finish", 1))
    for attempt, (owner, name, turn) in enumerate(events):
        pid = os.fork()
        if pid == 0:
            real, calls = getattr(owner, name), []

            def counted(*args, real=real, calls=calls, turn=turn, **kwargs):
                calls.append(None)
                if len(calls) >= turn:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            setattr(owner, name, counted)
            try:
                train_rounds(recipe_of(folder, model, images, resume=attempt > 0), console=Console(quiet=True))
            finally:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    train_rounds(recipe_of(folder, model, images, resume=True), console=Console(quiet=True))
    assert weights(folder) == weights(finished)
    for number in (1, 2):
        assert figures(folder / f"round-{number}" / "run") == figures(finished / f"round-{number}" / "run")
    with pytest.raises(UserError, match="already holds a run"):
        train_rounds(recipe_of(folder, model, images), console=Console(quiet=True))


def test_rounds_of_all_weights_and_without_a_judge(tmp_path, model, images):  # noqa: F811
    pairs = {**PAIRS, "type": "continue_blind"}
    recipe = recipe_of(tmp_path / "full", model, images, lora=None, rewards=[], pairs=pairs, learning_rate=1e-4)
    train_rounds(recipe, console=Console(quiet=True))
    second = load_recipe(tmp_path / "full" / "round-2" / "run" / "recipe.yaml")
    assert second.model.name == str(tmp_path / "full" / "round-1" / "run")
    assert (tmp_path / "full" / "model.safetensors").is_file()


def test_the_command_trains_rounds_and_several_processes_are_refused(tmp_path, model, images, capsys):  # noqa: F811
    recipe = recipe_of(tmp_path / "run", model, images, max_steps=1, rounds=1, save_steps=None)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert main(["train", str(tmp_path / "recipe.yaml")]) == 0, capsys.readouterr().err
    assert "report.html has the rounds" in capsys.readouterr().out
    with pytest.raises(RecipeError, match="`rounds` run in one process"):
        train_rounds(recipe_of(tmp_path / "two", model, images, nproc_per_node=2))
