"""From prompts to pairs on a tiny model: what is kept, counted and written, and that a killed command goes on alike."""

import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from sightline.cli.main import main
from sightline.cli.pairs import spelled_out
from sightline.config import DataConfig
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.data.sources.load import load_rows
from sightline.errors import DataError, RecipeError, RewardError
from sightline.models.load import load_processor
from sightline.pairs import completions, make
from sightline.pairs.completions import NoisyImage, first_words, joined, signal_kept, without_object
from sightline.pairs.journal import Journal
from sightline.recipe import normalise, structure
from sightline.rewards.completions import text_of
from sightline.rewards.reward_set import RewardSet
from sightline.rollouts.sampler import TransformersSampler
from sightline.types import Group

SAMPLER = {"type": "transformers", "num_generations": 4, "max_completion_length": 6}
PAIRS = {
    "type": "judged",
    "prompts": ["What is shown?", "Describe it."],
    "batch_size": 2,
    "keep_truncated": True,
    "length_tolerance": None,
}


def length(completions, **columns):
    return [len(text_of(one)) / 10 for one in completions]


def never(*args, **kwargs):
    raise AssertionError("it was asked again")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(7):
        path = folder / ("deeper" if number % 2 else ".") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(path)
    return folder


def recipe_of(folder: Path, model: Path, source: Path, **changes):
    tree = {
        "model": str(model),
        "data": str(source),
        "output_dir": str(folder),
        "sampler": {**SAMPLER, **changes.pop("sampler", {})},
        "pairs": {**PAIRS, **changes.pop("pairs", {})},
        **changes,
    }  # fmt: skip
    return structure(normalise(tree))


def run(folder: Path, model: Path, source: Path, *, rewards=(length,), **changes):
    return make.make_pairs(recipe_of(folder, model, source, **changes), rewards=rewards, console=Console(quiet=True))


def rows_of(folder: Path) -> list[dict]:
    return pq.read_table(folder / "train.parquet").to_pylist()


def text(side) -> str:
    return side[0]["content"][0]["text"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llava")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model, images):
    return run(tmp_path_factory.mktemp("pairs") / "mine", model, images)


def test_pairs_are_a_data_set_that_training_takes_as_it_is(finished, model):
    rows = load_rows(DataConfig(source=str(finished.folder)))
    groups = GroupDataset(
        rows, DataConfig(), Renderer(load_processor(recipe_of(Path("x"), model, Path("x")).model)), "pairs"
    )
    assert len(groups) == finished.summary.counts.pairs > 3
    assert all(isinstance(groups[i], Group) and len(groups[i].responses) == 2 for i in range(len(groups)))
    first = rows.example(0)
    assert {"file", "margin", "reason", "score_chosen", "rewards_rejected", "times_chosen"} <= first.row.keys()
    assert {json.dumps(row["prompt"][0]["content"][-1]["text"]) for row in rows_of(finished.folder)} <= {
        '"What is shown?"', '"Describe it."',
    }  # fmt: skip
    assert main(["data", "check", str(finished.folder)]) in (0, 1)  # a random model's answers are odd, not unread


def test_the_chosen_side_is_the_best_and_the_margin_is_the_difference(finished):
    for row in rows_of(finished.folder):
        assert row["score_chosen"] == pytest.approx(len(text(row["chosen"])) / 10)
        assert row["margin"] == pytest.approx(row["score_chosen"] - row["score_rejected"]) and row["margin"] > 0
        assert json.loads(row["rewards_chosen"]) == {"length": pytest.approx(row["score_chosen"])}
        assert row["reason"] == "length"
    summary = json.loads((finished.folder / "_pairs" / "summary.json").read_text())
    assert summary["counts"]["prompts"] == 7 and summary["counts"]["completions"] == 28
    assert summary["counts"]["pairs"] + summary["counts"]["ties"] + summary["counts"]["one_completion"] == 7


def test_choosing_again_asks_nothing(tmp_path, model, images, monkeypatch):
    folder = tmp_path / "again"
    first = run(folder, model, images)
    for owner, name in ((TransformersSampler, "sample"), (RewardSet, "score")):
        monkeypatch.setattr(owner, name, never)
    assert first.summary.margins is not None
    strict = run(folder, model, images, pairs={"margin": first.summary.margins[2]})
    assert strict.summary.counts.pairs < first.summary.counts.pairs
    assert run(folder, model, images, pairs={"max_pairs": 2}).summary.counts.pairs > first.summary.counts.pairs
    balanced = run(folder, model, images, pairs={"length_tolerance": 0.5}).summary
    assert balanced.counts.pairs + balanced.counts.left_out_for_length == first.summary.counts.pairs


def test_other_conditions_are_refused_by_name_and_other_rewards_keep_the_completions(
    tmp_path, model, images, monkeypatch
):
    folder = tmp_path / "other"
    run(folder, model, images)
    with pytest.raises(DataError, match=r"other conditions \(sampler is .*max_completion_length\": 7"):
        run(folder, model, images, sampler={"max_completion_length": 7})
    with pytest.raises(DataError, match="seed is 1, was 42"):
        run(folder, model, images, seed=1)
    monkeypatch.setattr(TransformersSampler, "sample", never)

    def shortness(completions, **columns):
        return [-len(one) for one in completions]

    row = rows_of(run(folder, model, images, rewards=[shortness]).folder)[0]
    assert row["reason"] == "shortness" and row["score_chosen"] == -len(text(row["chosen"]))


EVENTS = {
    "sampling": (TransformersSampler, "sample", 1),
    "between": (Journal, "add", 1),
    "judging": (RewardSet, "score", 0),
    "choosing": (make, "balance_lengths", 0),
    "writing": (make, "write_pairs", 0),
}


def killed(event: str, folder: Path, model: Path, images: Path) -> None:
    """The command in a process of its own that is killed when the event comes for the n-th time."""
    pid = os.fork()
    if pid == 0:
        owner, name, turn = EVENTS[event]
        real, seen = getattr(owner, name), []

        def counted(*args, **kwargs):
            seen.append(None)
            if len(seen) > turn:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(owner, name, counted)
        try:
            run(folder, model, images)
        finally:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_command_killed_anywhere_goes_on_to_the_same_bits(tmp_path, finished, model, images):
    folder = tmp_path / "killed"
    for event in EVENTS:
        killed(event, folder, model, images)
        journal = folder / "_pairs" / "completions.jsonl"
        journal.write_bytes(journal.read_bytes() + b'[9, {"0": [{"text": "a to')
    run(folder, model, images)
    for name in ("train.parquet", "_pairs/completions.jsonl", "_pairs/summary.json"):
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()


def test_a_reward_that_fails_says_what_is_kept_and_is_gone_on_with(tmp_path, finished, model, images):
    folder, calls = tmp_path / "failing", []

    def flaky(completions, **columns):
        calls.append(len(completions))
        if len(calls) == 2:
            raise OSError("no route")
        return length(completions)

    flaky.__name__ = "length"
    with pytest.raises(
        RewardError, match=r"(?s)`length` raised OSError: no route.*kept in .*_pairs; the same command goes"
    ):
        run(folder, model, images, rewards=[flaky])
    run(folder, model, images, rewards=[flaky])
    assert (folder / "train.parquet").read_bytes() == (finished.folder / "train.parquet").read_bytes()


def test_a_completion_is_continued_without_its_image(tmp_path, model, images, monkeypatch):
    seen = []
    real = completions.sample
    monkeypatch.setattr(
        completions, "sample", lambda m, p, groups, *a, **k: seen.extend(groups) or real(m, p, groups, *a, **k)
    )
    result = run(tmp_path / "blind", model, images, rewards=(), pairs={"type": "continue_blind"})
    assert seen and all("pixel_values" not in group.model_inputs for group in seen)
    for row in rows_of(result.folder):
        chosen, rejected = text(row["chosen"]), text(row["rejected"])
        assert rejected.startswith(first_words(chosen, 0.5)) and rejected != chosen
        assert row["reason"] == "continue_blind" and row["margin"] == 0


def test_completions_to_noise_are_the_rejected_ones(tmp_path, model, images, monkeypatch):
    seen = []
    real = TransformersSampler.sample
    monkeypatch.setattr(
        TransformersSampler, "sample", lambda self, prompts, *rest: seen.append(prompts) or real(self, prompts, *rest)
    )
    result = run(tmp_path / "noisy", model, images, rewards=(), pairs={"type": "noisy_image"})
    clean, noisy = seen[0][0], seen[1][0]
    assert (clean.group.prompt_ids == noisy.group.prompt_ids).all()
    assert not np.allclose(clean.group.model_inputs["pixel_values"], noisy.group.model_inputs["pixel_values"])
    assert all(text(row["chosen"]) != text(row["rejected"]) for row in rows_of(result.folder))


def test_noise_is_vcds_and_the_same_for_the_same_seed(images):
    betas = [1 / (1 + np.exp(6 - 12 * i / 999)) * (0.005 - 1e-5) + 1e-5 for i in range(1000)]
    kept = 1.0
    for beta in betas[:500]:
        kept *= 1 - beta
    assert signal_kept(500) == pytest.approx(kept) and signal_kept(1000) < 0.1 < 0.6 < signal_kept(500)

    class Gray:
        def open(self):
            return Image.new("RGB", (40, 40), (128, 128, 128))

    first = np.asarray(NoisyImage(Gray(), 100, (1, 2)).open(), dtype=float)
    assert (first == np.asarray(NoisyImage(Gray(), 100, (1, 2)).open())).all()
    assert first.std() / 127.5 == pytest.approx(np.sqrt(1 - signal_kept(100)), rel=0.05)


@pytest.mark.parametrize(
    ("answer", "objects", "left"),
    [
        ("A dog, a cat and a cup.", ["dog", "cat", "cup"], "A dog and a cat."),
        ("A dog sits. A cat sleeps.", ["dog", "cat"], "A dog sits."),
        ("A dog and a cat.", ["dog", "cat"], "A dog."),
        ("A dog.", ["dog", "cat"], None),
        ("A dog near a cat.", ["dog", "cat"], None),
    ],
)
def test_an_object_is_left_out(answer, objects, left):
    assert without_object(answer, objects) == left


def test_texts_are_cut_at_words_and_joined_with_one_space():
    assert first_words("a red  circle and a ring", 0.5) == "a red  circle"
    assert first_words("two words", 0.9) == "two" and first_words("one", 0.5) == "one" and first_words("", 0.5) == ""
    assert joined("a red", "circle.") == "a red circle." and joined("a red", ", blue") == "a red, blue"
    assert joined("a red", " circle") == "a red circle" and joined("a red", "") == "a red"


def test_a_folder_of_images_needs_a_question_and_rows_need_none(tmp_path, model, images, finished):
    with pytest.raises(RecipeError, match=r"folder of 7 images and says nothing of what to ask"):
        run(tmp_path / "a", model, images, pairs={"prompts": []})
    with pytest.raises(RecipeError, match="rows of a data set have prompts of their own"):
        run(tmp_path / "b", model, finished.folder)
    again = run(tmp_path / "c", model, finished.folder, pairs={"prompts": []})
    row = rows_of(again.folder)[0]
    assert row["source_reason"] == "length" and row["reason"] == "length" and row["file"].endswith(".png")


def test_pairs_without_a_judge_or_a_difference_are_told(tmp_path, model, images):
    with pytest.raises(RecipeError, match="Nothing judges the completions"):
        run(tmp_path / "a", model, images, rewards=())
    with pytest.raises(DataError, match=r"No pair is left: prompts 7, completions 28.*ties"):
        run(tmp_path / "b", model, images, rewards=[lambda completions, **_: [1.0] * len(completions)])


def test_the_command_makes_pairs_of_a_folder_and_says_what_they_are_like(tmp_path, model, images, capsys):
    words = ["pairs", "--model", str(model), "--data", str(images), "--prompt", "What is shown?", "--prompt=Why?"]
    words += ["--output", str(tmp_path / "out"), "--rewards", "{repetition: {ngram: 1}}"]
    words += ["--sampler.num-generations", "4", "--sampler.max-completion-length", "6"]
    words += ["--pairs.keep-truncated", "--pairs.length-tolerance", "none"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "completions" in said and "decided by" in said and "train with --data" in said
    assert (tmp_path / "out" / "pairs.html").is_file()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["prompts"] == 7
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").touch()
    assert main([*words[:-1], "none", "--output-dir", str(tmp_path / "theirs")]) == 2
    assert "given twice" in capsys.readouterr().err
    words[words.index(str(tmp_path / "out"))] = str(tmp_path / "theirs")
    assert main(words) == 2
    assert "holds files that are no pairs" in capsys.readouterr().err


def test_flags_of_the_command_are_a_recipes():
    assert spelled_out(["--adapter", "a", "--prompt", "x: y?", "--output=o"]) == [
        "--lora.adapter", "a", "--output-dir=o", "--pairs.prompts", '["x: y?"]',
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="`--prompt` needs a question"):
        spelled_out(["--prompt"])


def test_a_progress_bar_counts_answers_a_second(tmp_path, model, images):
    said = io.StringIO()
    make.make_pairs(
        recipe_of(tmp_path / "bar", model, images),
        rewards=[length],
        console=Console(file=said, force_terminal=True, width=120),
    )
    assert "answers/s" in said.getvalue() and "7/7" in said.getvalue()
