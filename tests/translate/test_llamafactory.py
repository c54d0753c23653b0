"""LLaMA-Factory's YAML becomes a recipe that means the same, and no key is lost on the way."""

import json
import re
from typing import Any

import pytest
import yaml

from sightline.cli.main import main
from sightline.errors import RecipeError
from sightline.recipe import load_recipe
from sightline.translate.llamafactory import RULES, from_llamafactory

EXAMPLE = {
    "model_name_or_path": "Qwen/Qwen2-VL-7B-Instruct", "image_max_pixels": 262144, "video_max_pixels": 16384,
    "stage": "dpo", "do_train": True, "finetuning_type": "lora", "lora_rank": 8, "lora_target": "all",
    "pref_beta": 0.1, "pref_loss": "sigmoid", "dataset": "rlhf_v", "template": "qwen2_vl", "cutoff_len": 2048,
    "max_samples": 1000, "preprocessing_num_workers": 16, "output_dir": "saves/qwen2_vl-7b/lora/dpo",
    "logging_steps": 10, "save_steps": 500, "plot_loss": True, "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8, "learning_rate": "5e-6", "num_train_epochs": 3.0, "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1, "bf16": True, "val_size": 0.1, "eval_strategy": "steps", "eval_steps": 500,
    "resume_from_checkpoint": None,
}  # fmt: skip

PEERS_KEYS = [
    "model_name_or_path", "image_max_pixels", "stage", "finetuning_type", "lora_rank", "lora_alpha", "lora_target",
    "pref_beta", "pref_loss", "pref_ftx", "pref_bco_weight", "dataset", "template", "cutoff_len", "max_samples",
    "preprocessing_num_workers", "output_dir", "logging_steps", "save_steps", "plot_loss",
    "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs",
    "lr_scheduler_type", "warmup_ratio", "bf16", "val_size", "eval_steps", "resume_from_checkpoint",
]  # fmt: skip
"""What users of LLaMA-Factory write."""


def written(folder, **changes):
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump({**EXAMPLE, **changes}))
    return path


def noted(translation):
    """Every old key that a note is about."""
    rows = [*translation.became, *translation.redundant, *translation.missing]
    return {old.partition(":")[0] for old, _ in rows}


def loaded(translation, folder) -> Any:
    path = folder / "recipe.yaml"
    path.write_text(translation.as_yaml())
    return load_recipe(path)


def test_the_example_of_qwen2_vl_means_the_same(tmp_path):
    recipe = loaded(from_llamafactory(written(tmp_path)), tmp_path)
    assert recipe.model.name == "Qwen/Qwen2-VL-7B-Instruct" and recipe.model.processor == {"max_pixels": 262144}
    assert recipe.lora.r == 8 and recipe.lora.alpha is None and recipe.lora.target_modules == "language"
    assert recipe.objective.type == "dpo" and recipe.objective.beta == 0.1
    assert recipe.data.registry == "data/dataset_info.json" and recipe.data.names == ["rlhf_v"]
    assert (recipe.data.max_length, recipe.data.on_overlong, recipe.data.limit) == (2048, "truncate", 1000)
    assert recipe.learning_rate == 5e-6 and recipe.warmup_steps == 0.1 and recipe.eval_steps == 500
    assert recipe.gradient_checkpointing  # on there unless it is disabled


def test_every_key_is_noted_and_what_cannot_be_is_said(tmp_path):
    translation = from_llamafactory(written(tmp_path, lora_alpha=16, pref_ftx=0, pref_bco_weight=0, no_such_key=1))
    assert noted(translation) == {*EXAMPLE, "lora_alpha", "pref_ftx", "pref_bco_weight", "no_such_key"}
    assert set(PEERS_KEYS) <= noted(translation)
    assert {old for old, _ in translation.missing} == {"video_max_pixels: 16384", "no_such_key: 1"}
    assert "no_such_key: 1" in translation.as_yaml()


@pytest.mark.parametrize(
    ("changes", "objective"),
    [
        ({"pref_loss": "hinge"}, {"type": "hinge", "beta": 0.1}),
        ({"pref_loss": "ipo", "pref_beta": 0.2}, {"type": "ipo", "beta": 0.2}),
        ({"pref_loss": "orpo"}, {"type": "orpo", "beta": 0.1}),
        ({"pref_loss": "simpo", "simpo_gamma": 0.7}, {"type": "simpo", "gamma": 0.7}),
        ({"pref_ftx": 0.3}, {"type": "dpo", "rpo_alpha": 0.3}),
        ({"dpo_label_smoothing": 0.1}, {"type": "dpo", "label_smoothing": 0.1}),
        ({"stage": "kto", "kto_chosen_weight": 2.0}, {"type": "kto", "desirable_weight": 2.0}),
        ({"stage": "sft"}, {"type": "sft"}),
        ({"stage": "sft", "use_dft_loss": True}, {"type": "dft"}),
    ],
)
def test_losses(changes, objective, tmp_path):
    recipe = loaded(from_llamafactory(written(tmp_path, **changes)), tmp_path)
    assert {name: getattr(recipe.objective, name) for name in objective} == objective


def test_its_mpo_keeps_its_proportions(tmp_path):
    """(dpo + w·bco) / (1 + w) + ftx·nll."""
    recipe = loaded(from_llamafactory(written(tmp_path, pref_bco_weight=0.25, pref_ftx=1.0)), tmp_path)
    assert recipe.objective.type == "mpo" and recipe.objective.running_shift
    weights = recipe.objective.preference_weight, recipe.objective.quality_weight, recipe.objective.generation_weight
    assert weights == pytest.approx((0.8, 0.2, 1.0))


def test_a_stage_that_is_not_trained_here_is_refused(tmp_path, capsys):
    with pytest.raises(RecipeError, match="stage: ppo"):
        from_llamafactory(written(tmp_path, stage="ppo"))
    assert main(["recipe", "from-llamafactory", str(written(tmp_path, stage="ppo"))]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_command_writes_a_recipe_and_tells_what_became_of_each_key(tmp_path, capsys):
    new = tmp_path / "new.yaml"
    assert main(["recipe", "from-llamafactory", str(written(tmp_path)), "--output", str(new)]) == 0
    said = capsys.readouterr()
    assert "  r: 8" in new.read_text() and load_recipe(new).lora is not None
    assert "images only" in said.err and all(len(line) <= 80 for line in said.err.splitlines())
    assert main(["recipe", "from-llamafactory", str(written(tmp_path)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"]["lora"]["r"] == 8
    assert told["missing"] == [{"old": "video_max_pixels: 16384", "why": "images only"}]
    assert main(["recipe", "from-llamafactory", str(written(tmp_path)), "--output", str(new)]) == 2


@pytest.mark.parametrize(
    ("given", "engine", "lost"),
    [
        ("examples/deepspeed/ds_z3_config.json", "zero3", []),
        ("examples/deepspeed/ds_z2_offload_config.json", "zero2", ["deepspeed"]),
        ("ds_z0_config.json", "auto", []),
        ("mine.json", "auto", ["deepspeed"]),
        ({"zero_optimization": {"stage": 1}}, "zero1", []),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}, "zero3", ["deepspeed"]),
    ],
)
def test_deepspeeds_configuration_names_the_engine(given, engine, lost, tmp_path):
    example = {name: value for name, value in EXAMPLE.items() if name != "video_max_pixels"}
    places = [given]
    if isinstance(given, dict):
        (tmp_path / "mine.json").write_text(json.dumps(given))
        places.append(str(tmp_path / "mine.json"))
    for place in places:
        (tmp_path / "train.yaml").write_text(yaml.safe_dump({**example, "deepspeed": place}))
        translation = from_llamafactory(tmp_path / "train.yaml")
        assert translation.recipe().engine == engine
        assert [old.partition(":")[0] for old, _ in translation.missing] == lost


def test_the_best_weights_are_kept_by_the_same_figure(tmp_path):
    keys = {"load_best_model_at_end": True, "metric_for_best_model": "rewards/accuracies"}
    recipe = loaded(from_llamafactory(written(tmp_path, **keys)), tmp_path)
    assert recipe.evaluation.best == "eval_rewards/accuracies" and recipe.eval_steps == 500
    for changes in ({"metric_for_best_model": "bleu"}, {"eval_strategy": "no"}):
        translation = from_llamafactory(written(tmp_path, **{**keys, **changes}))
        assert "load_best_model_at_end: true" in dict(translation.missing)
        assert translation.recipe().evaluation.best is None


def test_a_stream_needs_a_number_of_steps(tmp_path):
    keys = {"streaming": True, "buffer_size": 64}
    recipe = loaded(from_llamafactory(written(tmp_path, max_steps=200, **keys)), tmp_path)
    assert recipe.data.streaming and recipe.data.shuffle_buffer == 64 and recipe.max_steps == 200
    assert "streaming: true" in dict(from_llamafactory(written(tmp_path, **keys)).missing)


@pytest.mark.parametrize(
    ("changes", "targets"),
    [
        ({}, "language"),
        ({"freeze_vision_tower": False}, ["language", "vision"]),
        ({"freeze_vision_tower": False, "freeze_multi_modal_projector": False}, ["language", "vision", "projector"]),
        ({"freeze_multi_modal_projector": False}, ["language", "projector"]),
        ({"freeze_vision_tower": True}, "language"),
        ({"lora_target": "q_proj,v_proj", "freeze_vision_tower": False}, ["q_proj", "v_proj"]),
    ],
)
def test_what_an_adapter_adapts_follows_what_is_frozen(changes, targets, tmp_path):
    recipe = loaded(from_llamafactory(written(tmp_path, **changes)), tmp_path)
    assert recipe.lora.target_modules == targets and recipe.model.freeze_vision and recipe.model.freeze_projector


def test_names_of_layers_do_not_count_in_a_frozen_tower(tmp_path):
    targets = loaded(from_llamafactory(written(tmp_path, lora_target="q_proj,v_proj")), tmp_path).lora.target_modules
    assert re.fullmatch(targets, "model.language_model.layers.0.self_attn.q_proj")
    assert not re.fullmatch(targets, "model.vision_tower.encoder.layers.0.self_attn.q_proj")
    assert not re.fullmatch(targets, "model.language_model.layers.0.self_attn.k_proj")


def test_all_weights_keep_what_is_frozen(tmp_path):
    keys = {"finetuning_type": "full", "freeze_vision_tower": False, "freeze_multi_modal_projector": False}
    example = {key: value for key, value in EXAMPLE.items() if not key.startswith("lora")}
    (tmp_path / "full.yaml").write_text(yaml.safe_dump({**example, **keys}))
    recipe = from_llamafactory(tmp_path / "full.yaml").recipe()
    assert recipe.lora is None and not recipe.model.freeze_vision and not recipe.model.freeze_projector


def test_its_default_size_of_images_is_written_out(tmp_path):
    example = {key: value for key, value in EXAMPLE.items() if key != "image_max_pixels"}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(example))
    assert from_llamafactory(path).recipe().model.processor == {"max_pixels": 768 * 768}
    path.write_text(yaml.safe_dump({**example, "model_name_or_path": "/data/our-vlm-7b"}))  # by its template
    assert from_llamafactory(path).recipe().model.processor == {"max_pixels": 768 * 768}
    path.write_text(yaml.safe_dump({**example, "model_name_or_path": "llava-hf/x", "template": "llava"}))
    assert "image_max_pixels (left out: 589824 there)" in dict(from_llamafactory(path).missing)


def test_sets_for_evaluation_mixtures_and_quantisation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps({"held": {"file_name": "held.json"}, "hub": {}}))
    keys = {"eval_dataset": "held", "mix_strategy": "concat", "quantization_bit": 4, "quantization_method": "bnb"}
    translation = from_llamafactory(written(tmp_path, **keys))
    recipe = loaded(translation, tmp_path)
    assert recipe.data.eval_source == "data/held.json" and recipe.model.quantize == "nf4"
    assert not {"mix_strategy", "quantization_method"} & {old.partition(":")[0] for old, _ in translation.missing}
    keys = {"eval_dataset": "hub", "mix_strategy": "interleave_under", "interleave_probs": "0.7,0.3"}
    lost = dict(from_llamafactory(written(tmp_path, quantization_method="gptq", quantization_bit=4, **keys)).missing)
    assert "data.mixture" in lost["mix_strategy: interleave_under"] and "weight" in lost["interleave_probs: 0.7,0.3"]
    assert "quantization_method: gptq" in lost and "data.eval_source" in lost["eval_dataset: hub"]


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, "text", -1, 10**30, True, ""])
def test_values_of_any_kind_are_translated_or_refused_in_a_sentence(value, tmp_path):
    for name in RULES:
        try:
            from_llamafactory(written(tmp_path, **{name: value})).as_yaml()
        except RecipeError as error:
            assert "\n\n" not in str(error), name
