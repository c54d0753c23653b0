"""`sightline evaluate` and `sightline generate`, run as a user runs them, on tiny models and small files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.cli.main import main
from tests.evaluation import toy

Printed = pytest.CaptureFixture[str]


def test_evaluate_answers_scores_and_writes_a_folder(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: Printed
) -> None:
    data = toy.write_pope(tmp_path / "pope")
    command = ["evaluate", str(tiny_model("llava")), "--task", "pope", "--data", str(data)]
    command += ["--max-new-tokens", "3", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "POPE random" in printed and "always “No”" in printed and "Yes rate" in printed
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"pope-{s}.{e}" for s in ("adversarial", "popular", "random") for e in ("json", "jsonl")]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert figures.keys() == {"pope-random", "pope-popular", "pope-adversarial"}
    assert figures["pope-random"]["figures"]["all"]["accuracy"].keys() == {"value", "low", "high"}
    assert figures["pope-random"]["baselines"]["always “Yes”"]["all"]["accuracy"]["value"] == 50.0


def test_responses_are_scored_without_a_model_and_unanswered_tasks_are_listed(tmp_path: Path, capsys: Printed) -> None:
    data = toy.write_pope(tmp_path / "pope")
    responses = tmp_path / "answers.json"
    rows = [{"id": i, "response": "Yes", "task": "pope-popular"} for i in (1, 2, 3)]
    responses.write_text(json.dumps(rows))
    command = ["evaluate", "--responses", str(responses), "--task", "pope", "--data", str(data)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "66.7" in printed
    assert "1 of its items have no answer" in printed
    assert "No answers to POPE random" in printed and "No answers to POPE adversarial" in printed
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"pope-popular"}


def test_scored_responses_are_written_as_a_model_s_answers_and_can_be_compared(tmp_path: Path, capsys: Printed) -> None:
    flags = ["--task", "pope-random", "--data", str(toy.write_pope(tmp_path / "pope"))]
    for name in ("Yes", "No"):
        responses = tmp_path / f"{name}.json"
        responses.write_text(json.dumps([{"id": i + 1, "response": name} for i in range(4)]))
        command = ["evaluate", "--responses", str(responses), *flags, "--output", str(tmp_path / name)]
        assert main(command) == 0
        assert main(command) == 0, "the same file is scored again"
        capsys.readouterr()
        rows = [json.loads(line) for line in (tmp_path / name / "pope-random.jsonl").read_text().splitlines()]
        assert [row["answer"] for row in rows] == [name] * 4 and rows[0]["origin"]["responses"] == str(responses)
        summary = json.loads((tmp_path / name / "pope-random.json").read_text())
        assert summary["figures"]["all"]["accuracy"]["value"] == 50.0
    other = ["evaluate", "--responses", str(tmp_path / "Yes.json"), *flags, "--output", str(tmp_path / "No")]
    assert main(other) == 2
    assert "was answered under other conditions" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "Yes"), str(tmp_path / "No"), *flags, "--output", str(tmp_path / "c")]) == 0
    assert "No against Yes: 2 right only for No, 2 only for Yes" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["m", "--responses", "a.json"], "MODEL would do nothing"),
        (["--responses", "a.json", "--adapter", "runs/x"], "--adapter would do nothing"),
        (["--responses", "a.json", "--device", "cpu", "--batch-size", "4"], "--batch-size, --device would do nothing"),
        (["m", "--judge", "http://127.0.0.1/v1", "--judge-model", "j"], "--judge, --judge-model would do nothing"),
        (["m", "--data", "folder"], "--data is for benchmarks from files"),
        (["m", "--export", "lmms-eval"], "MODEL would do nothing"),
    ],
)
def test_arguments_without_effect_are_refused(flags: list[str], named: str, capsys: Printed) -> None:
    assert main(["evaluate", *flags]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"id": 1, "response": "Yes"}], "which several tasks have (pope-random, pope-popular, pope-adversarial)"),
        ([{"id": 99, "response": "Yes"}], "which pope-random or pope-popular or pope-adversarial does not have"),
        ([{"id": 1, "task": "pope-popular", "response": 3}], "the response is a int, expected text"),
        ([{"id": 1, "task": "pope-popular", "response": "No"}] * 2, "row 2 answers question 1 a second time"),
        ([{"id": 1}], "row 1 has no `response` or `answer` or `text`; it has 'id'"),
        ([7], "row 1: expected a JSON object"),
    ],
)
def test_responses_that_fit_no_question_are_refused(
    rows: list, complaint: str, tmp_path: Path, capsys: Printed
) -> None:
    data = toy.write_pope(tmp_path / "pope")
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rows))
    assert main(["evaluate", "--responses", str(path), "--task", "pope", "--data", str(data)]) == 2
    assert complaint in capsys.readouterr().err


def test_a_missing_image_is_named_before_the_model_is_loaded(tmp_path: Path, capsys: Printed) -> None:
    data = toy.write_pope(tmp_path / "pope")
    (data / "image" / "1.png").unlink()
    assert main(["evaluate", "nobody/nothing", "--task", "pope-random", "--data", str(data)]) == 2
    error = capsys.readouterr().err
    assert "1 image(s) of the questions are missing" in error and "1.png" in error


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ([], "Give either a MODEL to ask, or `--responses FILE`"),
        (["m", "--task", "pop"], "Did you mean pope?"),
        (["m", "--task", "pope"], "Task pope needs `--data`"),
        (["m", "--task", "pope", "--data", "nowhere"], "There is no coco_pope_random.json in nowhere"),
        (["m", "--tusk", "pope"], "Did you mean --task?"),
        (["m", "--limit", "0"], "0 is no whole number, 1 to 1e9"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(flags: list[str], complaint: str, capsys: Printed) -> None:
    assert main(["evaluate", *flags]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith("error: ") and "Traceback" not in error


def test_one_s_own_questions_are_asked_as_they_are_shown_and_compared(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: Printed
) -> None:
    for name in ("a", "b"):
        toy.image(ord(name)).save(tmp_path / f"{name}.png")
    rows = [
        {"question": "What is odd here?", "image": "a.png"},
        {"question": "Which one is larger?", "images": ["a.png", "b.png"], "id": "two"},
        {"question": "Who are you?"},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--task", "questions", "--data", str(tmp_path / "mine.jsonl"), "--max-new-tokens", "3"]
    command = ["evaluate", str(tiny_model("llava")), *flags, "--output", str(tmp_path / "one")]
    assert main(command) == 0
    said = capsys.readouterr().out
    stored = [json.loads(line) for line in (tmp_path / "one" / "questions.jsonl").read_text().splitlines()]
    assert {row["prompt"] for row in stored} == {row["question"] for row in rows}, "no suffix"
    assert all(row["prompt"] in said and row["answer"].strip() in said for row in stored)
    assert "Accuracy" not in said and "3, not scored" in said
    (tmp_path / "other.json").write_text(json.dumps([{"id": row["id"], "response": "a red fox"} for row in stored]))
    models = [f"one={tmp_path / 'one'}", f"other={tmp_path / 'other.json'}"]
    assert main(["compare", *models, *flags[:4], "--output", str(tmp_path / "out")]) == 0
    said, page = capsys.readouterr().out, (tmp_path / "out" / "comparison.html").read_text()
    assert "McNemar" not in said and "✗" not in page and 'data-right="--"' in page and "red fox" in page
    (tmp_path / "mine.jsonl").write_text('{"question": 7}\n')
    assert main(command) == 2
    assert "mine.jsonl, row 1: the question is 7; a text is expected" in capsys.readouterr().err


def test_generate_prints_an_answer_and_several_samples(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: Printed
) -> None:
    toy.image(1).save(tmp_path / "a.png")
    command = ["generate", str(tiny_model("llava")), "--image", str(tmp_path / "a.png"), "--prompt", "What is this?"]
    command += ["--max-new-tokens", "5"]
    assert main(command) == 0
    greedy = capsys.readouterr().out
    assert main(command) == 0
    assert capsys.readouterr().out == greedy != ""
    assert main([*command, "--temperature", "1", "--num", "3"]) == 0
    assert capsys.readouterr().out != greedy


def test_generate_names_a_image_that_is_not_there(capsys: Printed) -> None:
    assert main(["generate", "embedded", "--image", "nowhere.png", "--prompt", "What?"]) == 2
    said = capsys.readouterr().err
    assert "nowhere.png" in said and "Give the path of an image that is there" in said and "media_dir" not in said
    assert main(["generate", "embedded", "--prompt", "What?", "--num", "2"]) == 2
    assert "give --temperature above 0" in capsys.readouterr().err
