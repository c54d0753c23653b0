"""`sightline plan` as a user runs it: the page at 80 columns, JSON, and the recipe that fits."""

import json
import re
import shlex
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.errors import RecipeError
from sightline.memory.estimate import reference_mode
from sightline.memory.estimator import Estimator, is_sharded
from sightline.memory.planner import apply, combinations, engine_trains, read_size
from sightline.memory.sample import Sizes
from sightline.memory.shapes import read_shape
from sightline.recipe import load_recipe
from sightline.training.distributed.requested import requested_engine

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/idefics2_8b_dpo.yaml"
GB = 10**9


@pytest.fixture(scope="module", autouse=True)
def what_was_measured_is_kept():
    """What is measured of a shape and a row for one page serves the next."""
    known = {}
    made = Estimator.__init__

    def init(self, config, sizes, group=None):
        made(self, config, sizes, group)
        if group is None:
            vars(self).update(known.setdefault((config.to_json_string(), sizes), dict(vars(self))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimator, "__init__", init)
        yield


@pytest.fixture
def say(capsys, monkeypatch):
    """What a command prints; its exit code is checked."""
    monkeypatch.chdir(ROOT)

    def run(*words: str, code: int = 0) -> str:
        assert main(["plan", *words]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return run


def test_the_page_has_the_articles_sums_every_line_and_the_cheapest_change(say, tmp_path):
    page = say(RECIPE, "--gpu", "16GB", "--apply", str(tmp_path / "fits.yaml"))
    assert max(len(line) for line in page.splitlines()) <= 80
    for wanted in (
        "8,402,768,112 parameters", r"trains\s+41,943,040\s+of\s+8,444,711,152\s+parameters\s+\(0\.497%\)",
        r"would\s+train\s+55,348,736\s+of\s+8,458,116,848\s+parameters\s+\(0\.654%\)",
        r"total +160\.0 GB +168\.1 GB", r"total +32\.3 GB +33\.9 GB", r"AdamW +2 × 8×10⁹ × 4 +64\.0 GB +67\.2 GB",
        r"language model +7,110,672,384 × 2 \(bfloat16, frozen\) +14\.2 GB", r"adapter +41,943,040 × 8 \(adamw_torch\)",
        r"log-prob head", "No second model", r"ON 16\.0 GB", "Does not fit", r"  - model\.quantize: none",
        r"  \+ model\.quantize: int8", "--model.quantize int8",
    ):  # fmt: skip
        assert re.search(wanted, page), wanted
    # the change, applied, is that recipe with that change, and fits
    changed = load_recipe(str(tmp_path / "fits.yaml"), [])
    assert changed.model.quantize == "int8" and changed.lora == load_recipe(RECIPE, []).lora
    assert "Fits, with" in say(str(tmp_path / "fits.yaml"), "--gpu", "16GB")


def test_json_says_the_same_in_bytes_and_its_lines_add_up(say):
    found = json.loads(say(RECIPE, "--gpu", "16GB", "--json"))
    assert found["parameters"] == 8_402_768_112 and found["trained_all_linear"] == 55_348_736
    assert [round(one["nominal"] / GB, 1) for one in found["by_hand"]] == [160, 32.3]
    assert sum(line["bytes"] for line in found["lines"]) == found["peak"] == sum(found["totals"].values())
    assert all(line["formula"] and line["bytes"] >= 0 for line in found["lines"])
    assert not found["fits"] and found["fit"]["fields"] == {"model.quantize": "int8"}
    assert found["fit"]["peak"] <= 15 * GB < found["peak"]


def test_full_fine_tuning_is_sharded_over_gpus_before_it_becomes_another_run(say):
    page = say(RECIPE, "--lora", "none", "--gpu", "80GB", "--gpus", "8")
    assert max(len(line) for line in page.splitlines()) <= 80
    assert "(a copy of what is trained; the rest is" in page
    assert "+ engine: fsdp2" in page and "--engine fsdp2" in page and "same curve" in page and "quantize" not in page
    full = ["--lora", "none", "--model.freeze-projector", "false"]
    alone = say(RECIPE, *full, "--gpu", "80GB", "--learning-rate", "5e-7")
    assert "hardly moves at `learning_rate` 5e-07" in " ".join(alone.split()) and "ten times" in alone
    assert "+ lora: {r: 16}" in alone and "--lora.r 16" in alone and "--model.freeze-projector true" in alone


def test_whatever_is_proposed_to_a_recipe_that_trains_its_projector_is_a_recipe():
    recipe = load_recipe(str(ROOT / "recipes" / "llava_1_5_7b_dpo.yaml"), [])
    found = [apply(recipe, changes) for changes in combinations(recipe, 1)]
    assert any(one.lora is not None and one.model.freeze_projector for one in found)


def test_seventy_two_billion_from_a_folder_with_a_config_alone(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read_shape("qwen2.5-vl-72b-instruct").save_pretrained(tmp_path / "model")
    words = ["--model.name", "model", "--lora.r", "16", "--data.source", "x", "--output-dir", "x"]
    page = say(*words, "--gpu", "80GB", "--per-device-train-batch-size", "4")
    assert "73,410,777,344 parameters" in page and "nf4" in page and "smaller micro-batches" in page
    assert max(len(line) for line in page.splitlines()) <= 80
    # the command can be copied as it is
    given = shlex.split(page.partition("  sightline train ")[2].replace("\\\n", " "))
    assert {"--per-device-train-batch-size", "--model.quantize", "nf4"} <= set(given)
    assert given.count("--per-device-train-batch-size") == 1


def test_what_the_engine_refuses_is_not_proposed():
    recipe = load_recipe(RECIPE, ["--lora", "none", "--per-device-train-batch-size", "4"])
    proposed = [apply(recipe, changes) for changes in combinations(recipe, 8)]
    sharded = [one for one in proposed if one.engine == "fsdp2" and engine_trains(one)]
    assert len(sharded) > 10 and not all(engine_trains(one) for one in proposed)
    for one in sharded:
        requested_engine(one).check_recipe(one, 8)
    for one in (one for one in proposed if not engine_trains(one)):
        with pytest.raises(RecipeError):
            requested_engine(one).check_recipe(one, 8)


@pytest.mark.parametrize("engine", ["zero1", "zero2", "zero3"])
def test_the_stages_of_zero_are_planned_as_they_shard_and_refuse(engine):
    plain = load_recipe(RECIPE, ["--engine", engine])
    assert is_sharded(plain, 8) == (engine == "zero3") and not is_sharded(plain, 1)
    assert engine_trains(plain)
    assert not engine_trains(load_recipe(RECIPE, ["--engine", engine, "--model.quantize", "nf4"]))


def test_what_training_refuses_of_an_engine_the_plan_refuses_in_the_same_words(say, tiny_model):
    words = ["--model.name", str(tiny_model("llava")), "--engine", "zero2", "--gpu", "1GB"]
    full = ["--lora", "none", "--model.freeze-projector", "false"]
    assert "trains the vision tower or the projector" in say(*words, *full, "--gpus", "2", code=2)
    sharded = ["--lora.r", "4", "--model.quantize", "nf4", "--gpus", "2"]
    assert "quantized weights cannot be sharded under `engine: zero2`" in say(*words, *sharded, code=2)
    assert "Give --gpus 8" in say(*words, *full, code=2)


@pytest.mark.parametrize(
    ("flags", "copied"),
    [
        (["--engine", "fsdp2"], 4 * 7_241_756_672 // 8),
        (["--engine", "zero3"], 4 * 7_241_756_672),
    ],
)
def test_a_copy_as_reference_is_sharded_by_fsdp2_alone(flags, copied):
    recipe = load_recipe(RECIPE, ["--lora", "none", *flags])
    estimator = Estimator(read_shape("idefics2-8b"), Sizes())
    assert [line.bytes for line in estimator.static(recipe, gpus=8) if line.what == "reference"] == [copied]


def test_a_frozen_tower_is_whole_on_every_gpu_and_the_rest_is_shared(say):
    eight, alone = (
        {(line["what"], line["part"]): line["bytes"] for line in json.loads(page)["lines"]}
        for page in (say(RECIPE, "--engine", "fsdp2", "--gpus", "8", "--json"), say(RECIPE, "--json"))
    )
    assert eight["weights", "vision tower"] == alone["weights", "vision tower"]
    assert eight["weights", "language model"] == alone["weights", "language model"] // 8
    assert eight["optimiser", "adapter"] == alone["optimiser", "adapter"] // 8
    assert ("activations", "two layers, gathered") in eight and ("activations", "two layers, gathered") not in alone


@pytest.mark.parametrize(
    ("text", "expected"),
    [("80GB", 80 * GB), ("80", 80 * GB), ("24GiB", 24 * 2**30), ("0.5g", GB // 2), ("800 MB", 8e8)],
)
def test_sizes_of_gpus(text, expected):
    assert read_size(text) == expected


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        (["--lora.r", "8"], "adapter-off"),
        (["--lora.r", "8", "--lora.init", "pissa"], "frozen-copy"),
        (["--lora.adapter", "x"], "frozen-copy"),
        (["--lora", "none"], "frozen-copy"),
    ],
)
def test_the_reference_is_counted_as_training_keeps_it(flags, mode):
    assert reference_mode(load_recipe(RECIPE, flags)) == mode


def test_mistakes_are_one_paragraph(say, tmp_path):
    for nonsense in ("80 elephants", "-8GB", "0GB", "80TB", ""):
        assert "is no size of a GPU" in say(RECIPE, f"--gpu={nonsense}", code=2)
    assert "x is no whole number" in say(RECIPE, "--gpus", "x", code=2)
    assert "Did you mean --gpus?" in say(RECIPE, "--gpuss", "8", code=2)
    assert "nobody/nothing" in say("--model.name", "nobody/nothing", code=2)
    assert "there is no folder" in say(RECIPE, "--apply", str(tmp_path / "no" / "new.yaml"), "--gpu", "8GB", code=2)
    assert "give --gpu" in say(RECIPE, "--apply", str(tmp_path / "new.yaml"), code=2)
    (tmp_path / "there.yaml").write_text("")
    assert "exists already" in say(RECIPE, "--gpu", "8GB", "--apply", str(tmp_path / "there.yaml"), code=2)
    assert not list(tmp_path.glob("new.yaml"))
