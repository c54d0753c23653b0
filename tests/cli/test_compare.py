"""`sightline compare`, run as a user runs it."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sightline.cli.main import main
from sightline.config import LoraConfig, ModelConfig
from sightline.evaluation.task import Published
from sightline.evaluation.tasks.pope import pope
from sightline.evaluation.tasks.registry import BENCHMARKS
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.recipes import path as recipe_path
from tests.evaluation import toy

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def adapter(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes answers, as a run folder without a run card."""
    folder = tmp_path_factory.mktemp("tuned")
    model = add_lora(load_model(ModelConfig(name=str(tiny_model("llava")))), LoraConfig(r=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    load_processor(ModelConfig(name=str(tiny_model("llava")))).save_pretrained(folder)
    return folder


def test_adapters_of_one_base_are_swapped_and_each_gives_what_it_gives_alone(
    tiny_model: Callable[[str], Path], adapter: Path, tmp_path: Path, capsys: Printed
) -> None:
    data = toy.write_pope(tmp_path / "pope")
    flags = ["--task", "pope-random", "--data", str(data), "--max-new-tokens", "3"]
    base, out = str(tiny_model("llava")), tmp_path / "out"
    models = [f"base={base}", f"tuned={adapter}", f"again={base}"]
    assert main(["compare", *models, *flags, "--output", str(out)]) == 0
    assert "tuned against base" in capsys.readouterr().out
    page = (out / "comparison.html").read_text()
    assert page.count("data:image/png") == 2 and "http" not in page
    answers = {name: _answers(out / name / "pope-random.jsonl") for name in ("base", "tuned", "again")}
    assert answers["base"] == answers["again"] != answers["tuned"]
    assert main(["evaluate", base, "--adapter", str(adapter), *flags, "--output", str(tmp_path / "alone")]) == 0
    assert _answers(tmp_path / "alone" / "pope-random.jsonl") == answers["tuned"]


def test_a_quantised_run_and_its_base_are_asked_in_the_same_bits_and_that_is_said(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: Printed
) -> None:
    data, base, run = toy.write_pope(tmp_path / "pope"), str(tiny_model("llava")), tmp_path / "run"
    config = ModelConfig(name=base, quantize="nf4")
    add_lora(load_model(config), LoraConfig(r=2)).save_pretrained(str(run))
    (run / "recipe.yaml").write_text(f"model: {{name: {base}, quantize: nf4}}\nlora: {{r: 2}}\n")
    flags = ["--task", "pope-random", "--data", str(data), "--max-new-tokens", "2", "--device", "cpu"]
    assert main(["compare", f"base={base}", str(run), *flags, "--output", str(tmp_path / "out")]) == 0
    said = "Weights are kept as their runs were trained: nf4 (language) for base, run."
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "out" / "comparison.html").read_text()
    rows = [json.loads(line) for line in (tmp_path / "out" / "base" / "pope-random.jsonl").read_text().splitlines()]
    assert {row["origin"]["quantize"] for row in rows} == {"nf4"}
    assert main(["evaluate", str(run), *flags, "--output", str(tmp_path / "alone"), "--json"]) == 0
    assert "nf4 (language) for run." in " ".join(capsys.readouterr().err.split())


def _answers(path: Path) -> list[str]:
    return [json.loads(line)["answer"] for line in path.read_text().splitlines()]


def test_answers_that_evaluate_wrote_are_compared_without_a_model_and_judged(
    tmp_path: Path, capsys: Printed, server: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy.write_pope(tmp_path / "pope")
    for name, answer in (("yes", "Yes"), ("no", "No")):
        always = {"groups": [], "prompt": "", "answer": answer, "origin": {}}
        rights = [float((answer == "Yes") == (i % 2 == 0)) for i in range(4)]
        rows = [
            {"id": str(i + 1), "image_id": f"{i // 2}.png", "scores": {"accuracy": [right, 1.0]}, **always}
            for i, right in enumerate(rights)
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / "pope-random.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = ["compare", str(tmp_path / "yes"), str(tmp_path / "no"), "--task", "pope-random", "--data", str(data)]
    command += ["--output", str(tmp_path / "out")]
    (data / "image").rename(data / "aside")
    assert main([*command, "--json"]) == 0, "nobody is asked, so nobody needs the images"
    (data / "aside").rename(data / "image")
    found = json.loads(capsys.readouterr().out)["POPE random"]["no"]
    assert found["mcnemar"] == {"only_a": 2, "only_b": 2, "p_value": 1.0} and "judge" not in found
    # the second answer wins in the first two questions whatever the order, then the judge likes what stands first
    url, asked, answers = server
    answers([(200, word) for word in ("second", "first", "second", "first", "first", "first", "first", "first")])
    command += ["--judge", url, "--judge-model", "stub"]
    monkeypatch.setattr("sightline.cli.compare.PAIRS_AT_ONCE", 1)
    assert main([*command, "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)["POPE random"]["no"]["judge"]
    assert len(asked) == 8
    assert (judged["model"], judged["wins"], judged["losses"], judged["ties"], judged["equal"]) == ("stub", 2, 0, 2, 0)
    assert judged["win_rate"]["value"] == 75.0 and judged["consistency"]["value"] == 50.0
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "no wins 75.0%" in page and "Position consistency: 50.0%" in page


def test_files_of_answers_are_compared_with_a_table_and_published_rows_are_called_so(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy.write_pope(tmp_path / "pope")
    shutil.rmtree(data / "image")
    rows = [{"id": str(i + 1), "response": "Yes"} for i in range(4)]
    (tmp_path / "yes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist([{**row, "response": "No."} for row in rows]), tmp_path / "no.parquet")
    paper = Published(label="A model (a paper)", scores={"accuracy": 88.5})
    monkeypatch.setitem(
        BENCHMARKS, "pope-random", lambda folder, _: [replace(pope(folder, "random"), published=(paper,))]
    )
    command = ["compare", str(tmp_path / "yes.jsonl"), f"no={tmp_path / 'no.parquet'}", "--task", "pope-random"]
    command += ["--data", str(data), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert re.search(r"yes\.jsonl +no +always", said) and re.search(r"Accuracy +50\.0 \[.*\] +50\.0 \[.*\]", said)
    assert "Published: A model (a paper)  Accuracy 88.5" in said and "no against yes.jsonl" in said
    assert "no image" in (tmp_path / "out" / "comparison.html").read_text()
    assert main([*command, "--device", "cpu"]) == 2
    assert "no model is asked, so --device would do nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "complaint"),
    [
        (["one"], "takes two models or more"),
        (["a=m", "a=n"], "Two models are called 'a'"),
        (["m", "n", "--port", "80"], "`--port` is for `--serve`"),
        (["m", "n", "--serve"], "images and questions come from the page, so --task, --data would do nothing"),
    ],
)
def test_mistakes_are_named(models: list[str], complaint: str, tmp_path: Path, capsys: Printed) -> None:
    data = toy.write_pope(tmp_path / "pope")
    assert main(["compare", *models, "--task", "pope-random", "--data", str(data)]) == 2
    assert complaint in capsys.readouterr().err


METHODS = ("DPO", "MPO", "GRPO", "GSPO")
SMALL = [
    "--max-steps",
    "2",
    "--logging-steps",
    "1",
    "--per-device-train-batch-size",
    "2",
    "--dataloader-num-workers",
    "0",
    "--data.seed",
    "1",
]


def test_methods_trained_by_their_recipes_stand_side_by_side(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From four recipes, two steps each, to one page with base, scores, answers and curves."""
    for method in METHODS:
        flags = [*SMALL, "--data.scenes.images", "24", "--output-dir", str(tmp_path / method)]
        if method in ("GRPO", "GSPO"):
            flags += ["--data.val-size", "4"]
        assert main(["train", str(recipe_path(f"scenes_{method.lower()}")), *flags]) == 0
    models = ["base=embedded", *(f"{method}={tmp_path / method}" for method in METHODS)]
    capsys.readouterr()
    assert main(["compare", *models, "--limit", "6", "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert all(f"{method} against base" in said for method in METHODS) and "Only the first 6 of" in said
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "base, DPO, MPO, GRPO and GSPO on the same questions" in page
    assert page.count('<div class="answer ') == 6 * 5
    assert all(f'<th scope="col">{method}</th>' in page for method in METHODS)
    titles = ("Loss", "Reward accuracy", "Reward", "Entropy of the next token, nats")
    assert all(f'alt="{title} by optimizer step"' in page for title in titles)
