"""Checkpoints that are whole or not there: cut short, damaged, removed; disks that are full; SIGTERM."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.data.export import export
from sightline.data.sources.load import rows_of
from sightline.errors import UserError
from sightline.training.checkpoint.files import checkpoints, damage, load_state, save_state
from tests.training.runs import curve, lines, pairs, run

OPTIONS = {"max_steps": 4, "save_steps": 2, "num_train_epochs": 2}
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def rows():
    return pairs(12)  # the last step is in the middle of a pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model, rows) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, tiny_model("llava"), rows, **OPTIONS)
    return folder


def unfinished(tmp_path: Path, whole: Path) -> Path:
    """A run whose last steps were saved but that did not end."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / "sightline.json").unlink()
    (folder / "adapter_model.safetensors").unlink()
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_a_state_comes_back_with_the_same_bits(tmp_path):
    tree = {
        "numbers": [1, 0.1 + 0.2, float("inf"), True, None, "x", 2**70],
        3: (torch.arange(6).view(2, 3)[:, 1], {"empty": torch.zeros(0)}),
        "random": torch.get_rng_state(),
    }
    save_state(tree, tmp_path / "state.safetensors")
    back = load_state(tmp_path / "state.safetensors")
    assert back["numbers"] == tree["numbers"] and isinstance(back[3], tuple)
    assert torch.equal(back[3][0], tree[3][0]) and back[3][1]["empty"].shape == (0,)
    assert torch.equal(back["random"], tree["random"])
    with pytest.raises(TypeError, match="object"):
        save_state({"thing": object()}, tmp_path / "other.safetensors")


def test_a_checkpoint_holds_no_pickle(whole):
    files = {file.name for file in (whole / "checkpoint-4").iterdir()}
    assert {"optimizer.safetensors", "scheduler.safetensors", "process-0.safetensors", "checkpoint.json"} <= files
    assert {Path(name).suffix for name in files} <= {".safetensors", ".json", ".jinja", ".md", ".yaml"}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files


def test_a_resumed_run_saves_as_often_as_its_recipe_now_says(tmp_path, tiny_model, rows, whole):
    options = {**OPTIONS, "resume": str(whole / "checkpoint-2"), "save_steps": 1}
    run(tmp_path / "run", tiny_model("llava"), rows, **options)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-3", "checkpoint-4"]
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(tmp_path / "run").items())


@pytest.mark.parametrize("name", ["optimizer.safetensors", "adapter_model.safetensors", "process-0.safetensors"])
def test_a_file_cut_short_sends_the_run_back_one_checkpoint(tmp_path, tiny_model, rows, whole, name):
    folder = unfinished(tmp_path, whole)
    file = folder / "checkpoint-4" / name
    os.truncate(file, file.stat().st_size // 2)
    assert "bytes where" in str(damage(folder / "checkpoint-4"))
    run(folder, tiny_model("llava"), rows, **OPTIONS, resume=True)
    assert curve(folder) == curve(whole) and len(curve(folder)) == 4
    assert all(torch.equal(weights(folder)[key], value) for key, value in weights(whole).items())
    assert damage(folder / "checkpoint-4") is None


def test_a_run_that_ended_after_its_last_checkpoint_takes_no_step_more(tmp_path, tiny_model, rows, whole):
    folder = unfinished(tmp_path, whole)
    run(folder, tiny_model("llava"), rows, **OPTIONS, resume=True)
    assert curve(folder, "step") == curve(whole, "step") == [1, 2, 3, 4, 4]
    assert json.loads((folder / "sightline.json").read_text())["steps"] == 4
    assert all(torch.equal(weights(folder)[key], value) for key, value in weights(whole).items())


def test_a_changed_bit_is_noticed_and_a_run_without_a_whole_checkpoint_is_not_started_over(
    tmp_path, tiny_model, rows, whole
):
    folder = unfinished(tmp_path, whole)
    for checkpoint in checkpoints(folder):
        file = checkpoint / "optimizer.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"No checkpoint .* is whole.*checksum"):
        run(folder, tiny_model("llava"), rows, **OPTIONS, resume=True)
    with pytest.raises(UserError, match="damaged"):
        run(folder, tiny_model("llava"), rows, **OPTIONS, resume=str(folder / "checkpoint-2"))


def test_figures_between_two_logs_survive_a_resume(tmp_path, tiny_model, rows):
    options = {**OPTIONS, "logging_steps": 3, "max_steps": 6, "num_train_epochs": 3, "objective": {"type": "mpo"}}
    run(tmp_path / "whole", tiny_model("llava"), rows, **options)
    folder = tmp_path / "half"
    run(folder, tiny_model("llava"), rows, **options)
    (folder / "sightline.json").unlink()
    for name in ("checkpoint-4", "checkpoint-6"):
        (folder / name / "checkpoint.json").unlink()
    run(folder, tiny_model("llava"), rows, **options, resume=True)
    volatile = ("memory/", "train_runtime", "train_samples", "train_steps")
    ours, theirs = (
        [{k: v for k, v in line.items() if not k.startswith(volatile)} for line in lines(one)]
        for one in (folder, tmp_path / "whole")
    )
    assert ours == theirs and len(ours) == 4


def written(tmp_path: Path, rows) -> Path:
    """The rows as a file."""
    entries = list(rows_of(rows).entries())
    export(entries, entries, tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def command(folder: Path, model: Path, data: Path, *flags: str) -> list[str]:
    start = [sys.executable, "-m", "sightline.cli.main", "train", "--model", str(model), "--data", str(data)]
    return [*start, "--output-dir", str(folder), "--use-cpu", "--layout", "prefix", "--learning-rate", "1e-3", *flags]


def test_a_full_disk_loses_nothing_but_the_steps_since_the_last_checkpoint(tmp_path, tiny_model, rows):
    """On a small disk of its own, which is then made larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    flags = ["--max-steps", "4", "--save-steps", "1", "--num-train-epochs", "2", "--dataloader-num-workers", "0"]
    data, probe = written(tmp_path, rows), tmp_path / "probe"
    base, roomy = (
        command(folder, tiny_model("llava"), data, *flags, "--objective.type", "sft")
        for folder in (disk / "run", probe)
    )
    done = subprocess.run(roomy, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size = sum(file.stat().st_size for file in (probe / "checkpoint-4").iterdir())
    script = tmp_path / "small_disk.sh"
    train = " ".join(f"'{word}'" for word in base)
    script.write_text(
        f"mount -t tmpfs -o size={int(size * 2.6)} none {disk} || exit 90\n"
        f"{train}; echo code $?; ls -A {disk}/run\n"
        f"mount -o remount,size={size * 20} {disk} || exit 91\n"
        f"{train} --resume; echo code $?; cp -r {disk}/run {tmp_path}/end\n"
    )
    spaced = ["unshare", "--user", "--map-root-user", "--mount", "bash", str(script)]
    done = subprocess.run(spaced, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("code ")[1:]
    assert first.startswith("2") and "checkpoint-2" in first and "checkpoint-3" not in first and ".part" not in first
    assert "is full" in done.stderr and "Traceback" not in done.stderr
    assert "checkpoint-2" in first.partition("Resuming from")[2].replace("\n", "") and second.startswith("0")
    left, right = (load_file(folder / "model.safetensors") for folder in (tmp_path / "end", probe))
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_sigterm_saves_and_ends_with_143(tmp_path, tiny_model, rows):
    """As a scheduler sends it: to the trainer and to its workers, at once."""
    folder = tmp_path / "run"
    arguments = command(folder, tiny_model("llava"), written(tmp_path, rows), "--max-steps", "5000", "--lora.r", "4")
    arguments += ["--num-train-epochs", "5000", "--dataloader-num-workers", "2", "--objective.type", "sft"]
    process = subprocess.Popen(
        arguments, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.read_text().count('"loss"') < 2):
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    (checkpoint,) = checkpoints(folder)
    assert damage(checkpoint) is None
    last = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
    assert last == max(line["step"] for line in lines(folder) if "loss" in line) >= 2
    assert not (folder / "sightline.json").exists()
