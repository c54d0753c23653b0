"""Two processes have the curve of one, by every engine: LoRA and full, DPO and GRPO; no row is lost or seen twice."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.engines.world import METHODS, NUM_ROWS, ROWS_A_STEP
from tests.training.runs import curve

SECONDS = 900
"""After this much, something hangs."""
ZERO = [method for method in METHODS if method != "dpo-vision"]
OF_ENGINE = {
    "ddp": list(METHODS),
    "fsdp2": list(METHODS),
    "zero1": ["dpo-full", "grpo-lora"],
    "zero2": ["dpo-micro", "grpo-full"],
    "zero3": ZERO,
}
TOLERANCE = {"ddp": 1e-5, "fsdp2": 1e-4, "zero1": 1e-4, "zero2": 1e-4, "zero3": 1e-4}
FIGURES = {
    "dpo": ("loss", "grad_norm", "rewards/margins", "logps/chosen", "num_tokens", "eval_loss", "eval_logps/chosen"),
    "grpo": ("loss", "grad_norm", "reward", "kl", "num_tokens", "eval_reward"),
}


def start(folder: Path, model: Path, engine: str, number: int, methods: list[str]) -> Path:
    """Train in so many processes; the folder. Fails when they do not end in time."""
    folder.mkdir()
    program = ["-m", "tests.engines.world", str(folder), str(model), engine, str(number), *methods]
    if number > 1:
        program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number), *program]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *program], env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, tiny_model) -> Callable[[str], Path]:
    """`worlds(engine)`: the folder of its trainings; "alone" is one process."""
    made: dict[str, Path] = {}

    def of(engine: str) -> Path:
        if engine not in made:
            number, methods = (1, list(METHODS)) if engine == "alone" else (2, OF_ENGINE[engine])
            folder = tmp_path_factory.mktemp("worlds") / engine
            made[engine] = start(folder, tiny_model("llava"), engine, number, methods)
        return made[engine]

    return of


def seen(folder: Path) -> list[list[str]]:
    """The rows of each step over all processes, sorted."""
    ranks = [json.loads(path.read_text()) for path in sorted(folder.glob("seen-*.json"))]
    return [sorted(chain(*shares)) for shares in zip(*ranks, strict=True)]


@pytest.mark.parametrize(
    ("engine", "method"), [(engine, method) for engine in OF_ENGINE for method in OF_ENGINE[engine]]
)
def test_two_processes_have_the_curve_of_one(worlds, engine, method):
    alone, both = worlds("alone") / method, worlds(engine) / method
    card = json.loads((both / "sightline.json").read_text())
    assert (card["processes"], card["engine"]) == (2, engine)
    tolerance = TOLERANCE[engine]
    for name in FIGURES["grpo" if method.startswith("grpo") else "dpo"]:
        assert curve(both, name) == pytest.approx(curve(alone, name), rel=tolerance, abs=tolerance), name
        # answers serve two steps, and are judged in the first of them
        assert len(curve(alone, name)) == (2 if name.startswith("eval_") or name == "reward" else 4), name
    assert curve(alone)[1] != curve(alone)[0]
    assert (both / "best" / "model.safetensors").is_file() == (method == "dpo-full")
    file = "adapter_model.safetensors" if "full" not in method and "vision" not in method else "model.safetensors"
    ours, theirs = load_file(both / file), load_file(alone / file)
    assert ours.keys() == theirs.keys()
    assert all((ours[name] - theirs[name]).abs().max() <= 1e-4 for name in ours)


@pytest.mark.parametrize("engine", OF_ENGINE)
def test_every_row_is_seen_once_a_pass_whoever_has_it(worlds, engine):
    for method in OF_ENGINE[engine]:
        steps = seen(worlds(engine) / method)
        assert steps == seen(worlds("alone") / method)
        if method.startswith("dpo"):
            assert [len(step) for step in steps] == [ROWS_A_STEP, NUM_ROWS - ROWS_A_STEP] * 2
            assert len(set(steps[0] + steps[1])) == NUM_ROWS
