"""A run from rows to a folder: what it writes, what it refuses, and that others can load it."""

import errno
import html
import io
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from transformers import AutoModelForImageTextToText, AutoProcessor

from sightline.errors import DataError, RecipeError, UserError
from sightline.forward.head import token_log_probs
from sightline.training.trainer import AlignmentTrainer
from tests.training import runs
from tests.training.runs import curve, lines, pairs, run

DRAWS = True


@pytest.fixture(scope="module")
def rows():
    return pairs(12)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model, rows):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return run(folder, tiny_model("llava"), rows, data={"val_size": 4}, eval_steps=2, logging_steps=1)


def test_a_run_folder_holds_recipe_adapter_processor_metrics_curves_and_report(finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert {
        "recipe.yaml", "adapter_model.safetensors", "adapter_config.json", "processor_config.json", "metrics.jsonl",
        "curves", "report.html", "sightline.json",
    } <= names  # fmt: skip
    assert not [name for name in names if "part" in name or name.endswith(".bin")]
    assert {"loss.png", "reward_accuracy.png", "reward_margins.png"} <= {
        path.name for path in (finished.folder / "curves").iterdir()
    }


def test_the_adapter_loads_with_plain_peft_and_gives_the_trained_log_probs(finished, tiny_model):
    base = AutoModelForImageTextToText.from_pretrained(tiny_model("llava"))
    loaded = PeftModel.from_pretrained(base, finished.folder)
    trained = {n: p for n, p in finished.model.named_parameters() if "lora" in n}
    again = {n: p for n, p in loaded.named_parameters() if "lora" in n}
    assert trained.keys() == again.keys() and any(p.abs().sum() > 0 for n, p in again.items() if "lora_B" in n)
    assert all(torch.equal(trained[n], again[n]) for n in trained)
    assert AutoProcessor.from_pretrained(finished.folder).tokenizer is not None


def test_metrics_have_the_fields_names_on_training_and_held_out_rows(finished):
    names = {
        "loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen",
        "logps/rejected", "logits/chosen", "logits/rejected", "entropy", "mean_token_accuracy",
    }  # fmt: skip
    trained = [line for line in lines(finished.folder) if "loss" in line]
    held_out = [line for line in lines(finished.folder) if "eval_loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3, 4]
    assert [line["step"] for line in held_out] == [2, 4]
    assert names | {"grad_norm", "num_tokens", "learning_rate", "memory/cpu"} <= trained[0].keys()
    assert {f"eval_{name}" for name in names} <= held_out[0].keys()


def test_the_first_loss_of_dpo_is_log_two(finished):
    assert curve(finished.folder)[0] == pytest.approx(0.693147, abs=1e-5)


def test_a_full_run_loads_with_plain_transformers(tmp_path, tiny_model, rows):
    result = run(tmp_path / "full", tiny_model("llava"), rows, lora=None, max_steps=1, objective={"type": "sft"})
    loaded = AutoModelForImageTextToText.from_pretrained(result.folder)
    assert torch.equal(loaded.lm_head.weight, result.model.lm_head.weight)
    assert (result.folder / "model.safetensors").is_file()


def test_products_are_bfloat16_without_a_cache_that_keeps_weights_until_a_forward_ends(
    tmp_path, tiny_model, rows, monkeypatch
):
    """tests/memory counts what a cache would keep where layers are computed again."""
    seen = set()

    def watched(*args, **kwargs):
        seen.add((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return token_log_probs(*args, **kwargs)

    monkeypatch.setattr("sightline.forward.forward.token_log_probs", watched)
    options = {"lora": None, "bf16": True, "gradient_checkpointing": True, "max_steps": 1}
    run(tmp_path / "run", tiny_model("llava"), rows, **options)
    assert (True, False) in seen and (True, True) not in seen


def test_an_occupied_folder_is_refused_and_left_as_it_was(finished, tiny_model, rows):
    before = sorted(path.name for path in finished.folder.iterdir())
    with pytest.raises(UserError, match="already holds a run"):
        run(finished.folder, tiny_model("llava"), rows)
    assert sorted(path.name for path in finished.folder.iterdir()) == before


def test_a_folder_that_is_no_run_is_never_emptied(tmp_path, tiny_model, rows):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="does not hold a Sightline run"):
        run(tmp_path, tiny_model("llava"), rows, overwrite_output_dir=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_finished_run_resumed_does_nothing(finished, tiny_model, rows):
    again = run(finished.folder, tiny_model("llava"), rows, resume=True, data={"val_size": 4})
    assert again.model is None and again.metrics["loss"] == finished.metrics["loss"]


def test_a_bad_row_stops_the_run_with_its_number_or_is_skipped_and_counted(tmp_path, tiny_model):
    rows = pairs(8)
    rows[3] = {**rows[3], "rejected": rows[3]["chosen"]}
    with pytest.raises(DataError, match=r"rows:3|row 3"):
        run(tmp_path / "error", tiny_model("llava"), rows)
    run(tmp_path / "skip", tiny_model("llava"), rows, data={"on_bad_row": "skip"}, max_steps=2)
    assert json.loads((tmp_path / "skip" / "sightline.json").read_text())["rows_skipped"] == 1


def test_trimmed_rows_are_counted_once_in_metrics_card_report_and_terminal(tmp_path, tiny_model, monkeypatch):
    """Of prompts of 33 tokens and a limit of 42; two passes, and rows that only the evaluation at the end sees."""
    limit = {"max_length": 42, "on_overlong": "truncate"}
    said, data = io.StringIO(), {**limit, "val_size": 4}
    monkeypatch.setattr(runs, "Console", lambda **_: Console(file=said, width=200))
    result = run(tmp_path / "run", tiny_model("llava"), pairs(8), data=data, max_steps=2)
    while_training = curve(result.folder, "rows_truncated")[-1]
    assert 0 < while_training < 5 == json.loads((result.folder / "sightline.json").read_text())["rows_truncated"]
    for text in (said.getvalue(), html.unescape((result.folder / "report.html").read_text())):
        assert "5 rows were trimmed to `data.max_length` (42 tokens); the first: rows:" in text


def test_a_full_disk_is_one_paragraph_and_leaves_nothing_half_written(tmp_path, tiny_model, rows, monkeypatch):
    def no_space(trainer, output_dir):
        (Path(output_dir) / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AlignmentTrainer, "save_model", no_space)
    with pytest.raises(UserError, match="is full"):
        run(tmp_path / "run", tiny_model("llava"), rows, max_steps=1)
    assert not (tmp_path / "run" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "run" / ".part").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reference": "none"}, "compares the policy with a reference"),
        ({"objective": "sft", "reference": "frozen-copy"}, "has no reference"),
        ({"lora": None, "reference": "adapter-off"}, "trains all weights"),
    ],
)
def test_combinations_that_mean_nothing_are_refused_before_a_model_is_loaded(tmp_path, rows, changes, reason):
    with pytest.raises(RecipeError, match=reason):
        run(tmp_path / "run", tmp_path / "no-model", rows, **changes)
    assert not (tmp_path / "run").exists()
