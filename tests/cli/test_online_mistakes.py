"""What users get wrong about sampling and rewards: one paragraph, exit code 2, and nothing was loaded or written."""

import json
from pathlib import Path

import pytest

from sightline.cli.main import main

GRPO = ["--objective", "grpo", "--rewards", "own.py:good"]
LORA = ["--lora"]
SERVER = ["--sampler.type", "vllm", "--sampler.mode", "server", "--sampler.server-timeout", "0.2", "--sampler.url"]
OWN = """
def good(completions, **columns):
    return [float(len(completion)) for completion in completions]

def no_arguments():
    return [0.0]

def singular(completion, **columns):
    return [0.0]

def by_place(completions, /, **columns):
    return [0.0] * len(completions)

def one_for_all(completions, **columns):
    return [0.0]

def crash(completions, **columns):
    raise KeyError("truth")

def words(completions, truth):
    return [0.0] * len(completions)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """With reward files; the working directory."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "syntax.py").write_text("\ndef good(completions)\n    return []\n")
    (tmp_path / "needs.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "exits.py").write_text("\n\nraise SystemExit(3)\n")
    rows = [{"question": f"What is {i}?", "solution": str(i)} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective", "grpo"], "needs `rewards`"),
        (["--objective", "grpo", "--rewards", "acuracy"], "no reward `acuracy`. Did you mean `accuracy`?"),
        (["--objective", "grpo", "--rewards", "nowhere.py:good"], "there is no file nowhere.py"),
        (["--objective", "grpo", "--rewards", "own.py:goood"], "Did you mean `good`?"),
        (["--objective", "grpo", "--rewards", "own.py"], "name the function or class in it, as in `own.py:NAME`"),
        (["--objective", "grpo", "--rewards", "syntax.py:good"], "syntax.py, line 2). Fix it."),
        (["--objective", "grpo", "--rewards", "needs.py:good"], "needs.py, line 1). Fix it."),
        (["--objective", "grpo", "--rewards", "exits.py:good"], "exits.py, line 3). Fix it."),
        (["--objective", "sft", "--sampler.top-p", "0.9"], "`sampler` is for objectives over sampled answers"),
        (["--objective", "dpo", "--sampler.top-p", "0.9"], "nothing makes pairs of them for `objective.type: dpo`"),
        (["--objective", "grpo", "--pairs", "judged"], "learns from rewards themselves"),
        (["--pairs", "continue_blind", "--rewards", "accuracy"], "makes its pairs without a judge"),
        (["--objective", "kto", "--rewards", "accuracy"], "`rewards` is for objectives over sampled answers"),
        ([*GRPO, "--sampler.num-generations", "1"], "gives `objective.type: grpo` nothing to learn from"),
        ([*GRPO, "--sampler.stop", "['']"], "would end every completion at once"),
        ([*GRPO, "--sampler.top-p", "0"], "--sampler.top_p: `sampler.top_p: 0` cannot be"),
        ([*GRPO, "--sampler.temperature", "0"], "`sampler.temperature: 0` cannot be"),
        ([*GRPO, "--sampler.max-completion-length", "0"], "`sampler.max_completion_length: 0` cannot be"),
        ([*GRPO, "--reference.update-every", "2"], "no reference that `reference.update_every` could move"),
        ([*GRPO, "--sampler.url", "http://127.0.0.1:9"], "there is no `sampler.url`"),
        ([*GRPO, *LORA, "--sampler", "vllm", "--model.quantize", "nf4"], "nf4` trains on rounded weights, but"),
        ([*GRPO, *LORA, *SERVER, "http://127.0.0.1:9", "--model.quantize", "int8"], "sample from another model"),
        ([*GRPO, "--sampler", "vllm", "--lora.init", "pissa"], "`lora.init: pissa` takes the adapter's start out of"),
        ([*GRPO, "--sampler", "vllm", "--lora.use-dora"], "`lora.use_dora` trains magnitudes, for which vLLM has no"),
        ([*GRPO, "--sampler", "vllm", "--lora.use-rslora"], "needs vLLM in this environment"),
        ([*GRPO, "--sampler", "vllm"], "needs vLLM in this environment"),
        ([*GRPO, *SERVER, "http://127.0.0.1:9"], "Connection refused. It was asked again for 0.2 s"),
        ([*GRPO, *SERVER, "127.0.0.1:9"], "is no address; it has the form http://HOST:PORT"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_anything_is_loaded(folder, capsys, flags, said):
    run = ["train", "--model", "nowhere", "--data", "rows.jsonl", "--output-dir", "run", *flags]
    assert main(run) == 2
    paragraph = capsys.readouterr().err.strip()
    assert said in paragraph and paragraph.startswith("error: ") and "\n" not in paragraph
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("reward", "said", "sampled"),
    [
        ("own.py:no_arguments", "takes no arguments. Rewards are called as `reward(completions=", False),
        ("own.py:singular", "needs `completion`, which the rows do not have.*Did you mean `completions`?", False),
        ("own.py:by_place", "takes `completions` by its place", False),
        ("own.py:words", "needs `truth`, which the rows do not have. Their columns: solution. Rename", False),
        ("{accuracy: {column: truth}}", "column `truth`, which the rows do not have. They have solution.", False),
        ("{reward_model: {model: nowhere}}", "nowhere", False),
        ("{judge: {url: 'http://127.0.0.1:9/v1', model: j, patience: 0}}", "cannot be reached", False),
        ("own.py:one_for_all", "returned 1 rewards for 8 completions", True),
        ("own.py:crash", "raised KeyError: 'truth', on row rows.jsonl:", True),
    ],
)
def test_a_reward_that_cannot_judge_these_rows_is_told_in_its_first_step_at_the_latest(
    folder, tiny_model, capsys, monkeypatch, reward, said, sampled
):
    model = str(tiny_model("llava"))
    run = ["train", "--model", model, "--data", "rows.jsonl", "--objective", "grpo", "--output-dir", "run", "--lora"]
    sampling = ["--sampler.max-completion-length", "2", "--sampler.num-generations", "4", "--layout", "padded"]
    capsys.readouterr()  # what saving the model printed
    assert main([*run, *sampling, "--dataloader-num-workers", "0", "--rewards", reward]) == 2
    paragraph, *stack = capsys.readouterr().err.strip().splitlines()
    assert all(part in paragraph for part in said.split(".*")) and paragraph.startswith("error: "), paragraph
    assert bool(stack) == (reward == "own.py:crash"), "where in the user's function, and nothing else"
    assert paragraph.endswith("start again with --overwrite-output-dir.") == sampled
