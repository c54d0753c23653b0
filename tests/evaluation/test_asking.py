"""A model is asked as it was trained: with the recipe's system turn, and with the tokens that its texts may hold."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.evaluation import toy
from tests.training.runs import pairs, run

from sightline.app.answers import answers
from sightline.cli.main import main
from sightline.data.render.render import Renderer
from sightline.errors import DataError
from sightline.evaluation.asking import PLAIN, Asking, as_trained, asking_note
from sightline.evaluation.models import Models, Source, source_of
from sightline.evaluation.run import evaluate
from sightline.export.export import export

TURN, TOKEN = "red square the lazy dog", "<unk>"
AS_TRAINED = Asking(TURN, (TOKEN,))


@pytest.fixture(scope="module")
def trained(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a system turn and an allowed token, which asked a task meanwhile."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    data = {"system": TURN, "allow_tokens": [TOKEN]}
    own = folder.with_name("own.py")
    own.write_text("from tests.evaluation import toy\ntask = toy.task(1, 2)\n")
    scored = {"tasks": [f"{own}:task"], "every": 1, "best": "toy/accuracy", "limit": 2}
    run(folder, tiny_model("llava"), pairs(4), data=data, max_steps=1, evaluation=scored)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every prompt that is rendered meanwhile, as text."""
    seen: list[str] = []
    real = Renderer.prompt

    def prompt(self, example):
        group = real(self, example)
        seen.append(self.tokenizer.decode(group.prompt_ids))
        return group

    monkeypatch.setattr(Renderer, "prompt", prompt)
    return seen


def test_a_run_its_best_weights_and_its_adapter_on_another_name_are_asked_as_trained(trained: Path) -> None:
    source = source_of(str(trained))
    assert source.asking == AS_TRAINED and source.origin["system"] == TURN
    assert source_of(str(trained / "best")).asking == AS_TRAINED
    assert source_of(source.base, str(trained)).asking == AS_TRAINED
    assert source_of(source.base).asking == PLAIN and "system" not in source_of(source.base).origin


def test_an_exported_model_keeps_it(trained: Path, tmp_path: Path) -> None:
    export(str(trained), tmp_path / "model")
    assert as_trained(tmp_path / "model") == AS_TRAINED == source_of(str(tmp_path / "model")).asking
    for folder in (trained, tmp_path / "model"):
        assert f"ask with it:\n\n> {TURN}\n" in (folder / "README.md").read_text()
    assert not (trained / "best" / "README.md").exists(), "peft's blank card"


def test_a_base_beside_adapters_that_agree_is_asked_like_them_and_flags_change_all(trained: Path) -> None:
    run, base = source_of(str(trained)), Source("base", source_of(str(trained)).base)
    assert Models([base, run]).asking("base") == AS_TRAINED
    other = Source("other", base.base, str(trained))
    assert Models([base, run, other]).asking("base") == PLAIN, "adapters that do not agree"
    changed = Models([base, run], system="blue fox", allow_tokens=[])
    assert changed.asking("base") == changed.asking("run") == Asking("blue fox", ())
    assert Models([run], system="").asking("run") == Asking(None, (TOKEN,))


def test_what_is_asked_with_is_said_in_a_line() -> None:
    assert asking_note({"a": PLAIN}, is_given=False) is None
    assert asking_note({"a": PLAIN}, is_given=True) == "Asked with no system turn."
    assert asking_note({"a": Asking("Be brief.")}, is_given=False) == (
        "Asked with the system turn “Be brief.”, as trained."
    )
    said = asking_note({"a": PLAIN, "b": AS_TRAINED}, is_given=False)
    assert said is not None and "no system turn for a; " in said and f"{TOKEN} allowed in questions for b" in said


def test_generate_asks_as_trained_or_as_told(
    trained: Path, tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    toy.image(1).save(tmp_path / "a.png")
    command = ["generate", str(trained), "--image", str(tmp_path / "a.png"), "--prompt", f"{TOKEN} what is shown"]
    assert main([*command, "--max-new-tokens", "2", "--json"]) == 0
    said = capsys.readouterr()
    assert f"“{TURN}”" in said.err and len(json.loads(said.out)) == 1 and TURN in asked[-1]
    assert main([*command, "--max-new-tokens", "2", "--system", "blue fox"]) == 0
    assert "blue fox" in asked[-1] and TURN not in asked[-1]
    assert main([*command, "--max-new-tokens", "2", "--system", ""]) == 0
    assert "Asked with no system turn" in capsys.readouterr().err and TURN not in asked[-1]
    assert main([*command, "--allow-tokens", ""]) == 2, "a token that is not allowed"
    assert "reads as one token" in capsys.readouterr().err


def test_evaluation_asks_so_and_tells_such_answers_from_others(trained: Path, tmp_path: Path, asked: list[str]) -> None:
    models, path = Models([source_of(str(trained))]), tmp_path / "toy.jsonl"
    with models.use("run") as loaded:
        evaluate(*loaded, toy.task(1), path=path, asking=models.asking("run"))
        assert asked and all(TURN in text for text in asked)
        assert json.loads(path.read_text().splitlines()[0])["origin"]["system"] == TURN
        with pytest.raises(DataError, match=f"system: {TURN} there, None now"):
            evaluate(*loaded, toy.task(1), path=path)


def test_so_do_tasks_while_training_and_the_app(trained: Path, asked: list[str]) -> None:
    rows = [json.loads(line) for line in (trained / "scores" / "step-1" / "toy.jsonl").read_text().splitlines()]
    assert [row["origin"]["system"] for row in rows] == [TURN] * 2
    models = Models([source_of(str(trained))], device="cpu")
    list(answers(models, ["run"], toy.image(1), "What is this?", max_new_tokens=1))
    assert TURN in asked[-1]
