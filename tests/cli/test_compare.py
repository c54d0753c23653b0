"""`sightline compare`, run as a user runs it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sightline.cli.main import main
from sightline.config import LoraConfig, ModelConfig
from sightline.policy.load import load_model, load_processor
from sightline.policy.lora import add_lora
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


def _answers(path: Path) -> list[str]:
    return [json.loads(line)["answer"] for line in path.read_text().splitlines()]


def test_answers_that_evaluate_wrote_are_compared_without_a_model(tmp_path: Path, capsys: Printed) -> None:
    data = toy.write_pope(tmp_path / "pope")
    for name, answer in (("yes", "Yes"), ("no", "No")):
        always = {"groups": [], "prompt": "", "answer": answer, "origin": {}}
        rights = [float((answer == "Yes") == (i % 2 == 0)) for i in range(4)]
        rows = [
            {"id": str(i + 1), "picture_id": f"{i // 2}.png", "scores": {"accuracy": [right, 1.0]}, **always}
            for i, right in enumerate(rights)
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / "pope-random.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = ["compare", str(tmp_path / "yes"), str(tmp_path / "no"), "--task", "pope-random", "--data", str(data)]
    assert main([*command, "--output", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["POPE random"]["no"]
    assert found["mcnemar"] == {"only_a": 2, "only_b": 2, "p_value": 1.0}


@pytest.mark.parametrize(
    ("models", "complaint"),
    [(["one"], "takes two models or more"), (["a=m", "a=n"], "Two models are called 'a'")],
)
def test_mistakes_are_named(models: list[str], complaint: str, tmp_path: Path, capsys: Printed) -> None:
    data = toy.write_pope(tmp_path / "pope")
    assert main(["compare", *models, "--task", "pope-random", "--data", str(data)]) == 2
    assert complaint in capsys.readouterr().err
