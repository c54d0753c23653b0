"""Runs: every item is answered once, answers survive a crash, and those of another model are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation import toy

from sightline.config import ModelConfig
from sightline.errors import DataError
from sightline.evaluation.models import Loaded
from sightline.evaluation.record import read, record
from sightline.evaluation.run import evaluate
from sightline.evaluation.summary import summarise, write_summary
from sightline.models.load import load_model, load_processor
from sightline.scoring.interval import wilson


@pytest.fixture(scope="module")
def llava(tiny_model: Callable[[str], Path]) -> Loaded:
    config = ModelConfig(name=str(tiny_model("llava")))
    return Loaded(load_model(config), load_processor(config))


def test_every_item_is_answered_and_written_with_all_that_tells_it_apart(llava: Loaded, tmp_path: Path) -> None:
    task = toy.task()
    calls: list[tuple[int, int]] = []
    path = tmp_path / "toy.jsonl"
    records = evaluate(
        *llava, task, path=path, origin={"model": "m"}, batch_size=2, progress=lambda *call: calls.append(call)
    )
    assert [r.id for r in records] == [item.id for item in task.items]
    assert calls[-1] == (9, 9)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert set(rows[0]) == {"id", "groups", "image_id", "prompt", "answer", "scores", "origin"}
    assert rows[0]["origin"] == {"model": "m", "prompt": "{question}", "max_new_tokens": 4}
    assert rows[0]["scores"]["accuracy"][1] == 1.0
    assert read(path) == records
    assert len({r.answer for r in records}) > 1, "all answers alike: a mix-up of items would not show"
    alone = [evaluate(*llava, replace(task, items=[item]))[0] for item in task.items]
    assert alone == records


def test_an_interrupted_run_goes_on_where_it_was_cut(llava: Loaded, tmp_path: Path) -> None:
    task = toy.task()
    path = tmp_path / "toy.jsonl"
    whole = evaluate(*llava, task, path=path, origin={"model": "m"})
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + lines[4][:30])
    asked: list[int] = []
    again = evaluate(*llava, task, path=path, origin={"model": "m"}, progress=lambda done, total: asked.append(done))
    assert again == whole
    assert path.read_text().splitlines(keepends=True) == lines
    assert (
        evaluate(*llava, task, path=path, origin={"model": "m"}, progress=lambda *call: pytest.fail("asked")) == whole
    )


@pytest.mark.parametrize("change", [{"origin": {"model": "other"}}, {"prompt": "Look. {question}"}])
def test_answers_of_another_model_or_prompt_are_refused(llava: Loaded, tmp_path: Path, change: dict) -> None:
    path = tmp_path / "toy.jsonl"
    evaluate(*llava, toy.task(1), path=path, origin={"model": "m"})
    task = replace(toy.task(1), prompt=change.get("prompt", "{question}"))
    with pytest.raises(DataError, match=r"model: m there, other now|prompt: \{question\} there, Look"):
        evaluate(*llava, task, path=path, origin=change.get("origin", {"model": "m"}))


def test_stored_answers_are_scored_by_the_task_that_reads_them(llava: Loaded, tmp_path: Path) -> None:
    path, task = tmp_path / "toy.jsonl", toy.task()
    before = evaluate(*llava, task, path=path)
    turned = replace(task, items=[replace(i, truth={"yes": "no", "no": "yes"}[i.truth]) for i in task.items])
    after = evaluate(*llava, turned, path=path)
    assert [r.answer for r in after] == [r.answer for r in before]
    assert [r.scores for r in after] == [
        record(turned, i, r.answer).scores for i, r in zip(turned.items, before, strict=True)
    ]
    other = replace(task, items=[replace(task.items[0], question="Is it another one?"), *task.items[1:]])
    with pytest.raises(DataError, match="item 0-0 is to another prompt"):
        evaluate(*llava, other, path=path)


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "toy.jsonl"
    path.write_text('{"id": "0-0"}\n')
    with pytest.raises(DataError, match="line 1 is not an evaluation record"):
        read(path)


def test_a_image_that_cannot_be_read_is_named_with_its_task(llava: Loaded, tmp_path: Path) -> None:
    folder = toy.write_pope(tmp_path / "pope", ("random",))
    (folder / "image" / "1.png").write_bytes(b"not an image")
    from sightline.evaluation.tasks.registry import build

    with pytest.raises(DataError, match=r"1\.png.*cannot be decoded"):
        evaluate(*llava, build("pope-random", folder)[0])


def test_the_summary_holds_every_metric_by_group_with_its_interval(llava: Loaded, tmp_path: Path) -> None:
    task = toy.task()
    records = evaluate(*llava, task)
    summary = summarise(task, records)
    assert summary.counts == {"all": 9, "even": 6, "odd": 3}
    right = sum(bool(r.scores["accuracy"].numerator) for r in records)
    # nine answers about three images
    assert summary.overall("accuracy") == wilson(right / 3, 3).percent()
    assert summary.baselines["always “No”"]["all"]["accuracy"] == wilson(5 / 3, 3).percent()
    assert summary.baselines["always “No”"]["odd"]["recall"].value == 100.0
    write_summary(tmp_path / "toy.json", task, records, {"model": "m"})
    written = json.loads((tmp_path / "toy.json").read_text())
    assert written["figures"]["odd"]["accuracy"].keys() == {"value", "low", "high"}
    assert list(tmp_path.iterdir()) == [tmp_path / "toy.json"]


def test_a_summary_of_some_items_counts_the_others() -> None:
    from sightline.evaluation.record import record

    task = toy.task()
    summary = summarise(task, [record(task, item, "No") for item in task.items[:6]])
    assert summary.unanswered == 3
    assert summary.overall("recall").value == 100.0
    assert summary.overall("words").value == 1.0


def test_answers_to_items_beyond_a_limit_do_not_count() -> None:
    from sightline.evaluation.comparison import compare
    from sightline.evaluation.record import record

    task = toy.task()
    records = [record(task, item, item.truth.capitalize() if i < 3 else "?") for i, item in enumerate(task.items)]
    limited = replace(task, items=task.items[:3])
    assert summarise(limited, records).counts["all"] == 3
    assert summarise(limited, records).overall("accuracy").value == 100.0
    assert compare(limited, records, records).items == 3
