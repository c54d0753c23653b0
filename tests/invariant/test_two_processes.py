"""Two gloo processes have one process's step and curve, for objectives over batch statistics too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.invariant.two_processes import STEPS, TRAININGS, main
from tests.objectives.every import EVERY
from tests.training.runs import curve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model) -> tuple[Path, Path]:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    models = tiny_model("llava"), tiny_model("qwen3_5")
    command += ["-m", "tests.invariant.two_processes", str(two), *map(str, models), "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    both = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    main(one, *models, 1)
    _, said = both.communicate()
    assert both.returncode == 0, said[-3000:]
    return one, two


@pytest.fixture(scope="module")
def steps(folders) -> tuple[dict, dict, dict]:
    one, two = folders
    return torch.load(one / "steps-0.pt"), torch.load(two / "steps-0.pt"), torch.load(two / "steps-1.pt")


@pytest.mark.parametrize("name", EVERY)
def test_a_step_over_two_processes_is_that_of_one(steps, name):
    alone, first, second = (outcomes[name] for outcomes in steps)
    assert torch.equal(first["gradient"], second["gradient"])
    assert (first["gradient"] - alone["gradient"]).norm() <= 1e-6 * alone["gradient"].norm()
    assert first["loss"] == second["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    for figures in ("metrics", "state"):
        assert first[figures] == pytest.approx(alone[figures], rel=1e-6, abs=1e-9)
        assert second[figures] == first[figures]


@pytest.mark.parametrize("name", [*TRAININGS, "hybrid"])
def test_a_training_over_two_processes_has_the_curve_of_one(folders, name):
    one, two = (folder / name for folder in folders)
    for figure in ("loss", "grad_norm", *(("rewards/shift",) if name == "mpo" else ())):
        assert curve(two, figure) == pytest.approx(curve(one, figure), rel=1e-5, abs=1e-5)
        assert len(curve(one, figure)) == STEPS and curve(one, figure)[0] != curve(one, figure)[1]


def test_processes_share_the_questions_of_a_task_and_have_the_answers_of_one(folders):
    one, two = (folder / "watched" for folder in folders)
    for step in (0, STEPS):
        alone, shared = (folder / "scores" / f"step-{step}" / "scenes.jsonl" for folder in (one, two))
        answers = [[json.loads(line)["answer"] for line in path.read_text().splitlines()] for path in (alone, shared)]
        assert len(answers[0]) == 12 and answers[0] == answers[1]
    assert curve(two, "scenes/cover") == curve(one, "scenes/cover") and len(curve(one, "scenes/cover")) == 2
    cards = [json.loads((folder / "best" / "sightline.json").read_text()) for folder in (one, two)]
    assert cards[0] == cards[1] and (two / "best" / "adapter_model.safetensors").is_file()
