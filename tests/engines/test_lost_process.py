"""One of two processes is killed: the other ends in time and says so, nothing is left behind, and --resume goes on.

Rows from files under FSDP2 and ZeRO-3, and a stream under DDP: the resumed run has the bits of one that was left in
peace.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.training.runs import lines, pairs

ROOT = Path(__file__).parents[2]
SECONDS = 600
"""After this much, something hangs."""
STEPS = 5
TIMES = ("memory/", "seconds/", "train_runtime", "train_samples", "train_steps", "eval_runtime")
DATA: dict[str, dict[str, Any]] = {"fsdp2": {}, "zero3": {}, "ddp": {"streaming": True, "shuffle_buffer": 4}}


@pytest.fixture
def source(tmp_path) -> Path:
    """Eleven pairs, every third without a picture."""
    rows = []
    for i, row in enumerate(pairs(11)):
        buffer = io.BytesIO()
        row["image"].save(buffer, "PNG")
        (tmp_path / f"{i}.png").write_bytes(buffer.getvalue())
        rows.append({**row, "image": f"{i}.png" if i % 3 else None})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def command(folder: Path, name: str, model: Path, engine: str, source: Path, *, resume: bool) -> subprocess.Popen:
    """`sightline train` with two processes; to resume, through `accelerate launch` and its recipe for the engine."""
    recipe = {
        "model": str(model),
        "output_dir": str(folder / name),
        "data": {"source": str(source), "media_dir": str(source.parent), **DATA[engine]},
        "objective": {"type": "dpo"},
        "lora": {"r": 4},
        "max_steps": STEPS,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "save_steps": 1,
        "dataloader_num_workers": 1,
        "layout": "prefix",
        "use_cpu": True,
        "engine": engine,
        "nproc_per_node": 2,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable]
    if resume:
        config = ROOT / "recipes" / "accelerate" / f"{engine}.yaml"
        launch += ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"]
        launch += ["--main_process_port", "0", "--mixed_precision", "no"]
    words = [*launch, "-m", "sightline.cli.main", "train", str(path), *(["--resume"] if resume else [])]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_of(recipe: Path) -> list[int]:
    """Processes whose command line names this recipe."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:  # it has ended meanwhile
            continue
        if str(recipe) in words:
            found.append(int(entry.name))
    return sorted(found)


def workers(launcher: int, recipe: Path) -> list[int]:
    """The processes that train: the launcher's children."""

    def parent(process: int) -> int:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])

    return [process for process in processes_of(recipe) if process != launcher and parent(process) == launcher]


def wait_for(path: Path, process: subprocess.Popen) -> None:
    limit = time.monotonic() + SECONDS
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-4000:]
        assert time.monotonic() < limit, f"{path} does not come"
        time.sleep(0.02)


def figures(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if not k.startswith(TIMES)} for line in lines(folder)]


@pytest.mark.parametrize("engine", DATA)
def test_a_lost_process_ends_the_run_and_resume_gives_its_bits(tmp_path, tiny_model, source, engine):
    model, shared = tiny_model("llava"), set(os.listdir("/dev/shm"))
    whole = command(tmp_path, "whole", model, engine, source, resume=False)
    _, said = whole.communicate(timeout=SECONDS)
    assert whole.returncode == 0, said[-4000:]

    cut = command(tmp_path, "cut", model, engine, source, resume=False)
    wait_for(tmp_path / "cut" / "checkpoint-2" / "checkpoint.json", cut)
    first, second = workers(cut.pid, tmp_path / "cut.yaml")[:2]
    os.kill(second, signal.SIGKILL)
    _, said = cut.communicate(timeout=60)
    assert cut.returncode == 1, said[-4000:]
    told = [line for line in said.splitlines() if line.startswith("stopped:")]
    assert len(told) == 1 and "SIGKILL" in told[0] and "--resume" in told[0]
    assert "Traceback" not in said
    assert processes_of(tmp_path / "cut.yaml") == [], "processes are left over"
    left = {name for name in set(os.listdir("/dev/shm")) - shared if str(first) in name or str(second) in name}
    assert left == set(), "shared memory is left over"
    assert not (tmp_path / "cut" / "sightline.json").exists()

    again = command(tmp_path, "cut", model, engine, source, resume=True)
    said, problems = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, problems[-4000:]
    assert "Resuming from" in said
    assert figures(tmp_path / "cut") == figures(tmp_path / "whole")
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("cut", "whole"))
    assert ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)
    card = json.loads((tmp_path / "cut" / "sightline.json").read_text())
    assert (card["processes"], card["engine"], card["steps"]) == (2, engine, STEPS)
