"""What a rehearsal swaps, what it keeps, and the mistakes that it finds before a GPU is rented."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sightline.attention.attention import SMALLEST_GROUP
from sightline.config import DataConfig, ModelConfig
from sightline.data.formats import recognise
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.data.sources.load import load_rows
from sightline.errors import ModelError, RecipeError
from sightline.memory.estimator import Estimator
from sightline.memory.sample import usual_sizes
from sightline.memory.shapes import SHAPES, find_config
from sightline.models.load import load_processor
from sightline.recipe import normalise, structure
from sightline.rehearsal.data import ROWS, small_data
from sightline.rehearsal.rehearse import CHUNK, planned_peak, real_run, rehearse
from sightline.rehearsal.rows import LABELLED, WRITERS, write_rows
from sightline.rehearsal.shrink import config_of, shrink
from sightline.rehearsal.tiny_families import FAMILIES
from sightline.types import Group

IDEFICS = "HuggingFaceM4/idefics2-8b"
RESPONSES = {"pairs": 2, "demonstrations": 1, "labelled": 1, "prompts": 0}


def recipe(**changes) -> Any:
    tree = {
        "model": "HuggingFaceTB/SmolVLM-Instruct",
        "data": {"source": "owner/rows", "format": "columns"},
        "lora": {},
    }
    return structure(normalise({**tree, **changes}))


@pytest.mark.parametrize("kind", RESPONSES)
@pytest.mark.parametrize("format", WRITERS)
def test_made_up_rows_are_of_their_format(format, kind, tmp_path):
    if format == "kto" and kind != "labelled":
        return
    path = write_rows(tmp_path / "rows.parquet", format, kind, 6)
    rows = load_rows(DataConfig(source=str(path), format=format))
    examples = [rows.example(i) for i in range(6)]
    expected = 2 if kind == "labelled" and format not in LABELLED else RESPONSES[kind]
    assert all(len(e.responses) == expected and len(e.images) == 1 for e in examples)
    if kind == "pairs":
        assert recognise(rows[0]) == format
    if kind == "labelled" and format in LABELLED:
        assert {e.responses[0].label for e in examples} == {True, False}
    if kind == "prompts":
        assert all("solution" in e.row for e in examples)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "smolvlm", "paligemma", "gemma3", "mllama"])
def test_made_up_rows_take_the_way_of_long_ones(family, tiny_model, tmp_path):
    path = write_rows(tmp_path / "rows.parquet", "columns", "pairs", 8)
    model = ModelConfig(name=str(tiny_model(family)))
    processor = load_processor(model)
    dataset = GroupDataset(load_rows(DataConfig(source=str(path))), DataConfig(), Renderer(processor), "pairs")
    groups = [group for group in (dataset[i] for i in range(8)) if isinstance(group, Group)]
    assert len(groups) == 8 and min(group.num_tokens for group in groups) >= SMALLEST_GROUP
    targets = sum(len(response) for group in groups[:2] for response in group.responses)
    assert targets * len(processor.tokenizer) > CHUNK, "several chunks of logits"
    short = write_rows(tmp_path / "short.parquet", "columns", "pairs", 8, is_long=False)
    small = small_data(DataConfig(source="owner/rows", format="columns", max_length=256), tmp_path, "pairs", [])
    texts = [load_rows(DataConfig(source=str(source)))[1]["question"] for source in (short, small.source, path)]
    assert texts[0] == texts[1] and len(texts[2]) > len(texts[0]) + 200


def test_every_known_shape_has_a_tiny_model():
    families = {config_of(recipe(model=name)).model_type for name in SHAPES}
    assert families <= set(FAMILIES) and len(families) >= 9


def test_a_family_that_cannot_be_trained_is_said(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "florence2"}))
    with pytest.raises(ModelError, match="encoder-decoder"):
        config_of(recipe(model=str(tmp_path)))


def test_what_decides_whether_a_run_works_stays(tmp_path):
    small = shrink(recipe(objective={"type": "mpo"}, learning_rate=3e-5, gradient_accumulation_steps=32), tmp_path)
    assert small.recipe.objective.type == "mpo" and small.recipe.learning_rate == 3e-5
    assert small.recipe.gradient_accumulation_steps == 2 and small.recipe.max_steps == 3
    told = " ".join(small.changes)
    assert "Idefics3Processor" in told and "for owner/rows" in told and "32" in told


def test_everything_that_is_swapped_is_listed(tmp_path):
    asked = recipe(
        model={"name": "HuggingFaceTB/SmolVLM-Instruct", "dtype": "bfloat16", "trust_remote_code": True},
        data={"source": "owner/rows", "format": "columns", "eval_source": "owner/others"},
        engine="fsdp2",
        nproc_per_node=8,
        dataloader_num_workers=6,
        use_cpu=True,
    )
    small = shrink(asked, tmp_path)
    told = "\n".join(small.changes)
    assert small.recipe.bf16 and "bf16: true" in told
    assert "processes: a single one for 8 under `engine: fsdp2`" in told
    assert not small.recipe.model.trust_remote_code and "what `model.trust_remote_code` allows is not run" in told
    assert "made-up ones of the format columns, for owner/others" in told and "workers: 1 in place of 6" in told
    asked = recipe(data={"source": "owner/rows", "format": "columns", "val_size": 500})
    (tmp_path / "again").mkdir()
    assert "held-out rows: 4 for 500" in shrink(asked, tmp_path / "again").changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"engine": "fsdp2", "model": {"name": IDEFICS, "quantize": "nf4"}}, "quantized weights cannot be sharded"),
        ({"engine": "zero3", "reference": {"type": "frozen-copy"}}, "a policy that is sharded"),
        ({"engine": "zero2"}, r"sightline\[deepspeed\]"),
    ],
)
def test_what_the_real_engine_refuses_or_lacks_is_found_beforehand(tmp_path, monkeypatch, changes, expected):
    if "deepspeed" in expected:
        monkeypatch.setattr("sightline.training.distributed.zero.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=expected):
        rehearse(recipe(**changes), tmp_path, console=Console(quiet=True))


def test_the_planned_peak_is_that_of_the_recipes_engine_and_gpus():
    full = recipe(lora=None, engine="fsdp2", nproc_per_node=8, model={"name": IDEFICS, "freeze_projector": False})
    estimator = Estimator(find_config(full.model), usual_sizes(full))
    peak = planned_peak(full, estimator)
    assert peak == estimator.estimate(full, gpus=8).peak < estimator.estimate(full).peak / 2
    assert "GiB on each of 8 GPUs planned" in real_run(full, peak)
    alone = recipe(engine="fsdp2")
    assert "on a GPU planned" in real_run(alone, 1) and "--nproc-per-node says over how many" in real_run(alone, 1)


def test_a_misspelt_option_of_the_processor_is_found(tmp_path):
    wrong = recipe(model={"name": "HuggingFaceTB/SmolVLM-Instruct", "processor": {"longest_egde": 1024}})
    with pytest.raises(ModelError, match="longest_edge"):
        shrink(wrong, tmp_path)


def test_rows_that_are_here_are_read_as_they_are(tmp_path):
    mine = write_rows(tmp_path / "mine.parquet", "sharegpt", "pairs", 60)
    changes: list[str] = []
    small = small_data(DataConfig(source=str(mine)), tmp_path, "pairs", changes)
    assert small.source == str(mine) and len(load_rows(small)) == ROWS
    assert changes == [f"data: the first {ROWS} rows of {mine}"]


def test_renamed_columns_are_renamed_in_made_up_rows(tmp_path):
    data = DataConfig(source="owner/rows", format="columns", columns={"question": "problem"}, split="train[:6%]")
    small = small_data(data, tmp_path, "prompts", [])
    rows = load_rows(small)
    assert "problem" in rows[0] or "question" in rows[0]
    assert len(rows) == ROWS and rows.example(0).prompt


def test_a_registry_is_followed(tmp_path):
    entry = {
        "hf_hub_url": "llamafactory/RLHF-V", "ranking": True, "formatting": "sharegpt",
        "columns": {"messages": "turns", "chosen": "good", "rejected": "bad", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }  # fmt: skip
    (tmp_path / "dataset_info.json").write_text(json.dumps({"rlhf_v": entry}))
    data = DataConfig(registry=str(tmp_path / "dataset_info.json"), names=["rlhf_v"])
    (tmp_path / "made").mkdir()
    rows = load_rows(small_data(data, tmp_path / "made", "pairs", []))
    assert len(rows) == ROWS and len(rows.example(0).responses) == 2 and rows.example(0).images


def test_a_mixture_is_followed(tmp_path):
    mine = write_rows(tmp_path / "mine.parquet", "columns", "pairs", 60)
    data = recipe(data={"mixture": [{"source": str(mine)}, {"source": "owner/other", "format": "conversational"}]}).data
    rows = load_rows(small_data(data, tmp_path, "pairs", []))
    assert len(rows) == ROWS and Path(mine).exists()
