"""A run on rows that are read from front to back: alone, in two processes, and killed in the middle."""

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from sightline.errors import DataError, RecipeError
from sightline.recipe import structure
from sightline.training.run import train
from tests.training.runs import curve, figures, pairs

NUM_ROWS = 13
SHORT = {"max_length": 42, "on_overlong": "truncate"}
NUM_TRIMMED = 2
"""Of the rows with an image, prompts of 33 tokens, two have an answer of more than 9 tokens."""


def tree(folder: Path, model: Path, output: str = "run", **changes: object) -> dict:
    data = {"source": str(folder / "rows.jsonl"), "streaming": True, "shuffle_buffer": 4}
    return {
        "model": {"name": str(model)},
        "output_dir": str(folder / output),
        "max_steps": 6,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "dataloader_num_workers": 1,
        "lora": {"r": 4},
        "use_cpu": True,
        **changes,
        "data": data | changes.get("data", {}),  # type: ignore[operator]
    }


@pytest.fixture
def source(tmp_path) -> Path:
    """Rows with an image, and every third without: a process may have none in a step."""
    rows = []
    for i, row in enumerate(pairs(NUM_ROWS)):
        buffer = io.BytesIO()
        row["image"].save(buffer, "PNG")
        (tmp_path / f"{i}.png").write_bytes(buffer.getvalue())
        rows.append({**row, "image": f"{i}.png" if i % 3 else None})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def run(recipe: dict):
    return train(structure(recipe), console=Console(quiet=True))


def in_processes(recipe: dict, folder: Path, number: int, **environment: str) -> int:
    """Train in so many processes under torchrun; the exit code."""
    (folder / "recipe.json").write_text(json.dumps(recipe))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)] if number > 1 else []
    script = Path(__file__).with_name("streamed_run.py")
    command = [sys.executable, *launch, str(script), str(folder), str(number)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 or environment, done.stderr[-3000:]
    return done.returncode


def test_a_streamed_run_trains_over_several_passes(source, tiny_model):
    result = run(tree(source, tiny_model("llava")))
    losses = curve(source / "run")
    assert len(losses) == 6 and losses[0] == pytest.approx(0.6931, abs=1e-3) and losses[3] != losses[0]
    assert result.metrics["epoch"] == 1 and curve(source / "run", "epoch")[:4] == [0, 0, 0, 1]  # 4 steps see 16 of 13


def test_two_processes_see_each_row_once_a_pass_and_have_the_curve_of_one(source, tiny_model):
    run(tree(source, tiny_model("llava"), "one", data=SHORT))
    two = tree(source, tiny_model("llava"), "two", per_device_train_batch_size=2, data=SHORT)
    in_processes(two, source, 2)
    seen = [json.loads((source / f"seen-{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(step) for steps in seen for step in steps] == [2] * 12
    ids = [one for step in zip(*seen, strict=True) for share in step for one in share]
    assert len(set(ids[:NUM_ROWS])) == NUM_ROWS and max(Counter(ids).values()) == 2
    for name in ("loss", "grad_norm", "rewards/margins", "logps/chosen", "num_tokens"):
        assert curve(source / "two", name) == pytest.approx(curve(source / "one", name), rel=1e-5, abs=1e-5)
    assert curve(source / "two", "rows_truncated") == curve(source / "one", "rows_truncated")
    assert curve(source / "two", "rows_truncated")[-1] == NUM_TRIMMED


def test_a_killed_run_goes_on_at_the_exact_next_row(source, tiny_model):
    whole = tree(source, tiny_model("llava"), "whole", save_steps=2, dataloader_num_workers=2, data=SHORT)
    run(whole)
    cut = {**whole, "output_dir": str(source / "cut")}
    assert in_processes(cut, source, 1, KILL_AT="5") == -signal.SIGKILL
    assert len(curve(source / "cut")) == 5
    run({**cut, "resume": True})
    assert figures(source / "cut") == figures(source / "whole")
    assert curve(source / "cut", "rows_truncated")[-1] == NUM_TRIMMED
    weights = [(source / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_mixture_and_a_registry_are_trained_on_streamed_or_not(source, tiny_model):
    entry = {
        "file_name": "rows.jsonl",
        "ranking": True,
        "columns": {"prompt": "question", "images": "image", "chosen": "chosen", "rejected": "rejected"},
    }
    (source / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    parts = [{"source": str(source / "rows.jsonl"), "limit": 3}, {"source": str(source / "rows.jsonl"), "weight": 0.5}]
    registry = {"registry": str(source / "dataset_info.json"), "names": ["mine"]}
    for streaming, data in ((False, {"mixture": parts}), (False, registry), (True, {"mixture": parts})):
        changes = {"source": "", "streaming": streaming, **data}
        name = "-".join(map(str, (streaming, *data)))
        run(
            tree(
                source, tiny_model("llava"), name, max_steps=1, layout="prefix", dataloader_num_workers=0, data=changes
            )
        )
        assert curve(source / name)[0] == pytest.approx(0.6931, abs=1e-3)


def test_a_bad_row_of_a_stream_is_named_or_counted(source, tiny_model):
    with (source / "rows.jsonl").open("a") as file:
        file.write("\nno json\n")
    with pytest.raises(DataError, match=r"rows\.jsonl, row 13: the line is not JSON"):
        run(tree(source, tiny_model("llava")))
    run(tree(source, tiny_model("llava"), "skipping", data={"on_bad_row": "skip"}))
    assert curve(source / "skipping", "rows_skipped")[-1] == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": {"val_size": 2}}, "val_size"),
        ({"data": {"share_images": True}}, "share_images"),
        ({"data": {"source": "scenes"}}, "scenes are drawn"),
        ({"max_steps": -1}, "max_steps"),
    ],
)
def test_what_needs_all_rows_at_hand_is_refused(source, tiny_model, change, expected):
    with pytest.raises(RecipeError, match=expected):
        run(tree(source, tiny_model("llava"), **change))


def test_rewards_on_a_stream_are_refused_by_name(source, tiny_model):
    recipe = tree(source, tiny_model("llava"), objective={"type": "grpo"}, rewards={"length": {"longest": 9}})
    with pytest.raises(RecipeError, match="needs an index of them"):
        run(recipe)
