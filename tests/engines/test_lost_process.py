"""One of two processes is killed or hangs: the other ends in time and says so, nothing is left, and --resume goes on.

Rows from files under FSDP2 and ZeRO-3 on one host, and a stream under DDP on two, each with an `accelerate launch` of
its own: the resumed run has the bits of one that was left in peace, on one host.
"""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.training.runs import figures, pairs

ROOT = Path(__file__).parents[2]
SECONDS = 600
"""After this much, something hangs."""
STEPS = 5
STREAM = {"streaming": True, "shuffle_buffer": 4}
SILENCE = 20
"""`ddp_timeout`: far more than one process is behind the other on a machine that has much to do."""
HANGING = """
import os, signal
from pathlib import Path

HUNG = Path(__file__).with_suffix(".hung")
calls = 0

def brevity(completions, **columns):
    global calls
    calls += 1
    if calls == 3 and os.environ["RANK"] == "1" and not HUNG.exists():
        HUNG.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)  # its connections stay
    return [-len(completion) / 10 for completion in completions]
"""


@pytest.fixture
def source(tmp_path) -> Path:
    """Eleven pairs, every third without an image."""
    rows = []
    for i, row in enumerate(pairs(11)):
        buffer = io.BytesIO()
        row["image"].save(buffer, "PNG")
        (tmp_path / f"{i}.png").write_bytes(buffer.getvalue())
        rows.append({**row, "image": f"{i}.png" if i % 3 else None})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_recipe(path: Path, model: Path, engine: str, source: Path, **changes: Any) -> Path:
    """The recipe of a training by two processes, with the output folder beside it."""
    recipe = {
        "model": str(model),
        "output_dir": str(path.with_suffix("")),
        "data": {"source": str(source), "media_dir": str(source.parent), **(STREAM if engine == "ddp" else {})},
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
        **changes,
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def temporary_of(recipe: Path) -> Path:
    """The temporary folder of a recipe's launches: a short path, since sockets lie in it."""
    return Path(tempfile.gettempdir()) / f"sightline-test-{zlib.crc32(bytes(recipe)):08x}"


def start(launch: list[str], recipe: Path, *flags: str) -> subprocess.Popen:
    """`sightline train RECIPE`, by a launcher or alone."""
    temporary = temporary_of(recipe)
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(temporary),
    }
    words = [sys.executable, *launch, "-m", "sightline.cli.main", "train", str(recipe), *flags]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def accelerate(config: str, *flags: str) -> list[str]:
    """`accelerate launch` with one of the ready configurations, for two processes on CPUs."""
    path = ROOT / "recipes" / "accelerate" / config
    words = ["-m", "accelerate.commands.launch", "--config_file", str(path), "--num_processes", "2"]
    return [*words, "--mixed_precision", "no", *flags]


def on_two_hosts(recipe: Path, *flags: str) -> list[subprocess.Popen]:
    """A launcher for each host, as recipes/accelerate/two_hosts.yaml says; both are this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = ["--main_process_ip", "127.0.0.1", "--main_process_port", port, "--machine_rank"]
    return [start(accelerate("two_hosts.yaml", *where, rank), recipe, *flags) for rank in "01"]


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


@pytest.fixture
def whole(tmp_path, tiny_model, source, engine) -> Path:
    """The folder of a run that is left in peace, on one host."""
    recipe = write_recipe(tmp_path / "whole.yaml", tiny_model("llava"), engine, source)
    finish(start([], recipe, "--nproc-per-node", "2"))
    assert_no_temporary_files(recipe)
    return recipe.with_suffix("")


def finish(run: subprocess.Popen) -> None:
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, said[-4000:]


def assert_no_temporary_files(recipe: Path) -> None:
    left = {path.name for path in temporary_of(recipe).iterdir()}
    assert not [name for name in left if name.startswith(("torchelastic", "sightline", "pymp"))], left


def assert_nothing_is_left(recipe: Path, shared: set[str], trained: list[int]) -> None:
    """No process of the run, no shared memory by its processes' numbers, and no card of a run that ended well."""
    assert processes_of(recipe) == [], "processes are left over"
    new = set(os.listdir("/dev/shm")) - shared
    assert {name for name in new if any(str(number) in name for number in trained)} == set()
    assert not (recipe.with_suffix("") / "sightline.json").exists()


def assert_resumed(again: list[subprocess.Popen], cut: Path, whole: Path, engine: str) -> None:
    """The resumed run ends, with the bits of the other one."""
    outputs = [process.communicate(timeout=SECONDS) for process in again]
    assert [process.returncode for process in again] == [0] * len(again), outputs[0][1][-4000:]
    assert "Resuming from" in outputs[0][0]
    assert figures(cut) == figures(whole)
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (cut, whole))
    assert ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)
    card = json.loads((cut / "sightline.json").read_text())
    assert (card["processes"], card["engine"], card["steps"]) == (2, engine, STEPS)


@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_a_lost_process_ends_the_run_and_resume_gives_its_bits(tmp_path, tiny_model, source, whole, engine):
    shared = set(os.listdir("/dev/shm"))
    recipe = write_recipe(tmp_path / "cut.yaml", tiny_model("llava"), engine, source)
    cut = start([], recipe, "--nproc-per-node", "2")
    wait_for(tmp_path / "cut" / "checkpoint-2" / "checkpoint.json", cut)
    first, second = workers(cut.pid, recipe)[:2]
    os.kill(second, signal.SIGKILL)
    _, said = cut.communicate(timeout=60)
    assert cut.returncode == 1, said[-4000:]
    told = [line for line in said.splitlines() if line.startswith("stopped:")]
    assert len(told) == 1 and "SIGKILL" in told[0] and "--resume" in told[0]
    assert "Traceback" not in said
    assert_nothing_is_left(recipe, shared, [first, second])
    again = start(accelerate(f"{engine}.yaml", "--main_process_port", "0"), recipe, "--resume")
    assert_resumed([again], tmp_path / "cut", whole, engine)


@pytest.mark.full
@pytest.mark.parametrize("engine", ["fsdp2"])
def test_a_process_that_hangs_ends_the_run_after_ddp_timeout_and_resume_gives_its_bits(
    tmp_path, tiny_model, source, engine
):
    """In the reward of its third step, while the other one waits for what it has."""
    shared = set(os.listdir("/dev/shm"))
    recipes = {}
    for name in ("whole", "cut"):
        rewards = tmp_path / f"{name}.py"
        rewards.write_text(HANGING)
        online = {
            "objective": {"type": "grpo"},
            "sampler": {"type": "transformers", "num_generations": 4, "max_completion_length": 5},
            "rewards": {f"{rewards}:brevity": 1.0},
            "ddp_timeout": SILENCE,
        }
        recipes[name] = write_recipe(tmp_path / f"{name}.yaml", tiny_model("llava"), engine, source, **online)
    (tmp_path / "whole.hung").touch()
    finish(start([], recipes["whole"], "--nproc-per-node", "2"))
    cut = start([], recipes["cut"], "--nproc-per-node", "2")
    _, said = cut.communicate(timeout=SECONDS)
    assert cut.returncode == 1 and (tmp_path / "cut.hung").exists(), said[-4000:]
    (told,) = (line for line in said.splitlines() if line.startswith("stopped:"))
    assert "does not answer (Timed out" in told and "`ddp_timeout`" in told and "--resume" in told
    assert "Traceback" not in said
    assert_no_temporary_files(recipes["cut"])
    assert_nothing_is_left(recipes["cut"], shared, [int((tmp_path / "cut.hung").read_text())])
    again = start([], recipes["cut"], "--nproc-per-node", "2", "--resume")
    assert_resumed([again], tmp_path / "cut", tmp_path / "whole", engine)


@pytest.mark.full
@pytest.mark.parametrize("engine", ["ddp"])
def test_two_hosts_have_the_bits_of_one_though_one_of_them_dies(tmp_path, tiny_model, source, whole, engine):
    shared = set(os.listdir("/dev/shm"))
    recipe = write_recipe(tmp_path / "cut.yaml", tiny_model("llava"), engine, source)
    hosts = on_two_hosts(recipe)
    wait_for(tmp_path / "cut" / "checkpoint-2" / "checkpoint.json", hosts[0])
    trained = [workers(host.pid, recipe)[0] for host in hosts]
    for number in (hosts[1].pid, trained[1]):  # as when its power goes: launcher and process
        os.kill(number, signal.SIGKILL)
    _, said = hosts[0].communicate(timeout=60)
    hosts[1].communicate()
    assert hosts[0].returncode == 1, said[-4000:]
    (told,) = (line for line in said.splitlines() if line.startswith("stopped:"))
    assert "Another process of this run" in told and "--resume" in told
    assert_nothing_is_left(recipe, shared, trained)
    assert_resumed(on_two_hosts(recipe, "--resume"), tmp_path / "cut", whole, engine)
