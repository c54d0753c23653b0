"""AMBER's and POPE's own files and figures, to the digit. Skipped where the files are not at hand."""

from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluation.record import record
from sightline.evaluation.summary import Summary, summarise
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.files import missing_files, require_images
from sightline.evaluation.tasks.registry import build

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_amber = pytest.mark.skipif(not (DATA / "amber").is_dir(), reason="AMBER's files are not here")
needs_pope = pytest.mark.skipif(not (DATA / "pope").is_dir(), reason="POPE's files are not here")


def answered(task: Task, answer: str) -> Summary:
    return summarise(task, [record(task, item, answer) for item in task.items])


def official(task: Task, answer: str) -> dict[str, dict[str, float]]:
    assert task.official is not None
    return task.official([(item, answer) for item in task.items])


@needs_amber
def test_always_no_and_always_yes_give_amber_s_official_figures() -> None:
    task = build("amber-discriminative", DATA)[0]
    assert len(task.items) == 14216
    always_no = official(task, "No")
    assert {group: (row["accuracy"], row["f1"]) for group, row in always_no.items()} == {
        "all": (66.3, 79.7),
        "existence": (100.0, 100.0),
        "attribute": (50.0, 66.7),
        "attribute/state": (50.0, 66.7),
        "attribute/number": (50.0, 66.7),
        "attribute/action": (50.0, 66.7),
        "relation": (41.4, 58.6),
    }
    assert (always_no["all"]["precision"], always_no["all"]["recall"]) == (66.3, 100.0)
    yes = official(task, "Yes")["all"]
    assert (yes["accuracy"], yes["f1"]) == (33.7, 0.0)


@needs_amber
def test_our_figures_agree_with_the_official_ones_and_baselines_stand_beside_them() -> None:
    task = build("amber-discriminative", DATA)[0]
    summary = answered(task, "No, not at all.")
    assert summary.overall("accuracy").value == 0.0
    assert summary.overall("inexact").value == 100.0
    assert summary.overall("tolerant_accuracy").value == pytest.approx(66.3, abs=0.05)
    assert summary.overall("unparsed").value == 0.0
    always_no = summary.baselines["always “No”"]
    for group, row in official(task, "No").items():
        for name in ("accuracy", "f1"):
            assert always_no[group][name].value == pytest.approx(row[name], abs=0.06)
    interval = always_no["all"]["accuracy"]
    # every image has about as many noes as the next: whole images drawn, always “No” hardly varies
    assert interval.high - interval.low == pytest.approx(0.41, abs=0.05)
    assert summary.counts == {
        "all": 14216, "attribute": 7628, "attribute/state": 4764, "attribute/number": 2072, "attribute/action": 792,
        "existence": 4924, "relation": 1664,
    }  # fmt: skip


@needs_amber
def test_amber_descriptions_read_from_the_truth_score_perfectly_and_their_expected_objects_are_hallucinations() -> None:
    task = build("amber-generative", DATA)[0]
    assert len(task.items) == 1004
    assert "exact vocabulary" in task.title
    truth = [record(task, i, " and ".join(i.truth["truth"])) for i in task.items]
    perfect = summarise(task, truth).official["all"]
    # words such as "orange" are safe; a repeated object is covered once, which is AMBER's own arithmetic
    assert (perfect["chair"], perfect["hal"]) == (0.0, 0.0)
    assert perfect["cover"] > 93
    expected = [record(task, i, " and ".join(i.truth["hallu"])) for i in task.items]
    wrong = summarise(task, expected).official["all"]
    assert wrong["chair"] > 90
    assert wrong["hal"] > 99
    assert wrong["cog"] > 90
    silent = answered(task, "").official["all"]
    assert silent == {"chair": 0.0, "cover": 0.0, "hal": 0.0, "cog": 0.0}


@needs_amber
def test_missing_images_are_named_and_counted() -> None:
    tasks = build("amber", DATA)
    assert len(missing_files(item for task in tasks for item in task.items)) == 1004
    with pytest.raises(DataError, match=r"1004 image.*AMBER_1\.jpg"):
        require_images(tasks)


@needs_pope
def test_pope_s_always_yes_is_right_half_the_time() -> None:
    tasks = build("pope", DATA)
    assert [len(task.items) for task in tasks] == [3000, 3000, 3000]
    for task in tasks[:1]:
        summary = answered(task, "Yes, there is.")
        assert summary.overall("accuracy").value == 50.0
        assert summary.overall("recall").value == 100.0
        assert summary.overall("f1").value == pytest.approx(66.67, abs=0.01)
        assert summary.overall("yes_rate").value == 100.0
