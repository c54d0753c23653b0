"""Loading: what is frozen, in which precision, and what is refused in one paragraph."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor, trainable_summary, unfreeze
from sightline.rehearsal.tiny_models import NAMED
from tests.groups import make_group
from tests.loaded import Loaded

Load = Callable[..., Loaded]
Folder = Callable[[str], Path]


@pytest.mark.parametrize("name", NAMED)
def test_model_and_processor_of_every_family_load_from_a_folder(loaded: Load, name: str) -> None:
    family = loaded(name)
    group = family.group(sizes=((50, 70), (30, 40)))
    assert family_of(family.model).has_images(group)
    assert not family.model.training and not any(p.requires_grad for p in family.model.parameters())


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm", "internvl"])
def test_a_processor_goes_to_a_worker_and_back(loaded: Load, name: str) -> None:
    processor = loaded(name).processor
    again = pickle.loads(pickle.dumps(processor))
    a, b = make_group(processor), make_group(again)
    assert torch.equal(a.prompt_ids, b.prompt_ids)
    assert torch.equal(a.model_inputs["pixel_values"], b.model_inputs["pixel_values"])


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm"])
def test_a_processor_is_saved_under_its_own_name_and_loads_again(loaded: Load, name: str, tmp_path: Path) -> None:
    family = loaded(name)
    family.processor.save_pretrained(tmp_path)
    shutil.copy(Path(family.config.name) / "config.json", tmp_path)
    again = load_processor(ModelConfig(name=str(tmp_path)))
    assert type(again).__name__ == type(family.processor).__name__
    assert torch.equal(make_group(again).prompt_ids, make_group(family.processor).prompt_ids)


def test_settings_for_videos_survive_a_machine_without_torchvision(tiny_model: Folder, tmp_path: Path) -> None:
    for name, kind in {"qwen2_5_vl": "Qwen2VLVideoProcessor", "smolvlm": "SmolVLMVideoProcessor"}.items():
        folder = _copy(tiny_model(name), tmp_path / name)
        saved = json.loads((folder / "processor_config.json").read_text())
        assert saved["video_processor"] == {"video_processor_type": kind}
        _edit(folder / "processor_config.json", video_processor={"video_processor_type": kind, "fps": 3})
        load_processor(ModelConfig(name=str(folder))).save_pretrained(tmp_path / name / "again")
        again = json.loads((tmp_path / name / "again" / "processor_config.json").read_text())
        assert again["video_processor"] == {"video_processor_type": kind, "fps": 3}


def test_weights_come_in_the_precision_asked_for(loaded: Load) -> None:
    assert {p.dtype for p in loaded("llava").model.parameters()} == {torch.float32}
    assert {p.dtype for p in loaded("llava", dtype="bfloat16").model.parameters()} == {torch.bfloat16}


def test_tower_and_projector_stay_frozen_and_trained_weights_are_float32(loaded: Load) -> None:
    llava = loaded("llava", dtype="bfloat16")
    model = unfreeze(llava.model, llava.config)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(n.startswith(("model.language_model.", "lm_head.")) for n in trained) and len(trained) > 10
    assert {p.dtype for n, p in model.named_parameters() if n in trained} == {torch.float32}
    assert {p.dtype for n, p in model.named_parameters() if n not in trained} == {torch.bfloat16}
    assert set(trainable_summary(model)[2]) == {"language", "head"}


def test_a_recipe_can_train_tower_and_projector(loaded: Load) -> None:
    llava = loaded("llava", freeze_vision=False, freeze_projector=False)
    model = unfreeze(llava.model, llava.config)
    assert all(p.requires_grad for p in model.parameters())
    assert set(trainable_summary(model)[2]) == {"language", "head", "vision", "projector"}


def test_tied_embeddings_stay_tied(tiny_model: Folder, tmp_path: Path) -> None:
    folder = _copy(tiny_model("llava"), tmp_path)
    _edit(folder / "config.json", tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("lm_head.weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = ModelConfig(name=str(folder), dtype="bfloat16")
    model = unfreeze(load_model(config), config)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.dtype == torch.float32


def test_options_reach_the_image_processor(loaded: Load) -> None:
    smaller = loaded("idefics3", processor={"longest_edge": 56, "do_image_splitting": False})
    usual = loaded("idefics3")
    assert len(smaller.group().prompt_ids) < len(usual.group().prompt_ids)
    assert smaller.group().model_inputs["pixel_values"].shape[1] == 1


def test_pixel_budgets_reach_a_processor_that_has_them(loaded: Load) -> None:
    smaller = loaded("qwen2_vl", processor={"max_pixels": 28 * 28})
    assert len(smaller.group().prompt_ids) < len(loaded("qwen2_vl").group().prompt_ids)


def test_an_unknown_option_is_refused_with_the_nearest_name(tiny_model: Folder) -> None:
    config = ModelConfig(name=str(tiny_model("idefics3")), processor={"do_image_spliting": False})
    with pytest.raises(ModelError, match=r"do_image_spliting.*Did you mean 'do_image_splitting'"):
        load_processor(config)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for load in (load_model, load_processor):
        with pytest.raises(ModelError, match="does not exist"):
            load(ModelConfig(name=str(tmp_path / "nothing")))
        with pytest.raises(ModelError, match=r"has no config\.json"):
            load(ModelConfig(name=str(tmp_path)))
        with pytest.raises(ModelError, match="No model is named"):
            load(ModelConfig())


def test_a_language_model_is_not_a_vlm(tmp_path: Path) -> None:
    tiny = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    LlamaForCausalLM(tiny).save_pretrained(tmp_path)
    for load in (load_model, load_processor):
        with pytest.raises(ModelError, match="'llama', which is not a vision-language model"):
            load(ModelConfig(name=str(tmp_path)))


def test_missing_weights_are_named_and_never_drawn_at_random(tiny_model: Folder, tmp_path: Path) -> None:
    folder = _copy(tiny_model("llava"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("q_proj.weight") and "language_model" in n)
    weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 tensors"):
        load_model(ModelConfig(name=str(folder)))


def test_a_folder_without_processor_is_refused(tiny_model: Folder, tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        shutil.copy(tiny_model("llava") / file, tmp_path)
    with pytest.raises(ModelError, match="processor"):
        load_processor(ModelConfig(name=str(tmp_path)))


def test_a_processor_of_another_model_is_refused(tiny_model: Folder, tmp_path: Path) -> None:
    folder = _copy(tiny_model("llava"), tmp_path)
    _edit(folder / "config.json", image_token_id=7, image_token_index=7)
    with pytest.raises(ModelError, match="marks images with token 6, the model expects 7"):
        load_processor(ModelConfig(name=str(folder)))


def test_a_tokenizer_larger_than_the_model_is_refused(tiny_model: Folder, tmp_path: Path) -> None:
    folder = _copy(tiny_model("llava"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 100
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="its tokenizer has the id"):
        load_processor(ModelConfig(name=str(folder)))


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "model"))


def _edit(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("name", ["__class__", "preprocess", "_processor_class", "save_pretrained", "evil"])
def test_what_is_no_option_of_a_processor_is_not_set(loaded: Load, name: str) -> None:
    config = loaded("llava").config
    with pytest.raises(ModelError, match=f"`model.processor` has the option '{name}', which"):
        load_processor(ModelConfig(name=config.name, processor={name: 7}))
