"""Model folders that are damaged, or do not belong together: one paragraph that names the file, never a traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sightline.cli.main import main
from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.folder_checks import check_sizes
from sightline.models.load import EMBEDDED, load_model, load_processor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(EMBEDDED, copy)
    return copy


def load(folder: Path) -> None:
    config = ModelConfig(name=str(folder))
    load_processor(config)
    load_model(config)


def set_config(folder: Path, key: str, value: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    *groups, last = key.split(".")
    inside = config
    for group in groups:
        inside = inside[group]
    inside[last] = value
    path.write_text(json.dumps(config))


VALUES = [
    ("text_config.num_hidden_layers", 10**9),
    ("text_config.num_hidden_layers", -1),
    ("text_config.num_hidden_layers", "3"),
    ("text_config.num_hidden_layers", True),
    ("text_config.num_attention_heads", 0),
    ("text_config.hidden_size", 10**12),
    ("text_config.hidden_size", -64),
    ("text_config.hidden_size", "64; rm"),
    ("text_config.hidden_size", 2.5),
    ("text_config.vocab_size", 0),
    ("vision_config.patch_size", 0),
    ("vision_config.image_size", -1),
    ("vision_config.num_channels", 10**6),
    ("text_config", 7),
    ("text_config.hidden_act", "__import__('os')"),
    ("text_config.rope_parameters", {"rope_type": "evil", "rope_theta": 1.0}),
    ("dtype", "os.system"),
    ("model_type", None),
    ("vision_feature_layer", -99),
    ("text_config.rope_parameters.rope_theta", True),
    ("text_config.rms_norm_eps", "1e-6"),
    ("vision_config.layer_norm_eps", float("inf")),
    ("text_config.eos_token_id", "</s>"),
    ("text_config.pad_token_id", [1, "2"]),
]


@pytest.mark.parametrize("key, value", VALUES, ids=[f"{key} {value!r:.20}" for key, value in VALUES])
def test_a_config_that_makes_no_model_is_named(folder, key, value):
    set_config(folder, key, value)
    with pytest.raises(ModelError, match="model"):
        load(folder)


@pytest.mark.parametrize("value", ["x", [0, None], True, 1.5])
def test_a_token_that_is_no_number_is_named(folder, value):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ModelError, match=r"generation_config.json: `eos_token_id`"):
        load(folder)


@pytest.mark.parametrize("other", [{"patch_size": 2}, {"image_processor": {}}], ids=["patches", "images"])
def test_a_processor_for_another_size_is_named(folder, tmp_path, capsys, other):
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))
    image = tmp_path / "image.png"
    Image.new("RGB", (64, 64), "red").save(image)
    assert main(["generate", str(folder), "--image", str(image), "--prompt", "What is this?"]) == 2
    assert "Processor and model do not match" in capsys.readouterr().err


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\x80", b"[" * 100_000, b'{"a": NaN'])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_none_is_named(folder, name, text):
    assert (folder / name).is_file() or name == "preprocessor_config.json"
    (folder / name).write_bytes(text)
    with pytest.raises(ModelError):
        load(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def rewrite(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        weights = load_file(path)
        name = next(key for key in sorted(weights) if key.endswith("q_proj.weight"))
        save_file({**weights, name: change(weights[name]).contiguous()}, path, metadata={"format": "pt"})

    return written


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "random": lambda path: path.write_bytes(bytes(range(256)) * 50),
    "a header too large": lambda path: path.write_bytes((2**60).to_bytes(8, "little") + b"{}"),
    "NaN": rewrite(lambda weight: torch.full_like(weight, torch.nan)),
    "one Inf": rewrite(lambda weight: torch.where(torch.arange(len(weight))[:, None] == 0, torch.inf, weight)),
    "whole numbers": rewrite(lambda weight: weight.to(torch.int64)),
    "another shape": rewrite(lambda weight: weight[:-1]),
    "an index of files that are not there": lambda path: path.with_name("model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}})
    ),
    "an index that leads outside": lambda path: path.with_name("model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": "../other.safetensors"}})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_damaged_weights_are_named(folder, damage):
    (path,) = folder.glob("*.safetensors")
    DAMAGE[damage](path)
    with pytest.raises(ModelError) as error:
        load_model(ModelConfig(name=str(folder)))
    assert str(folder) in str(error.value)


def test_switches_of_published_configs_are_no_sizes() -> None:
    """Of Idefics and LFM2: true or false under names that end like sizes, and no words beyond the vocabulary."""
    switches = {"freeze_text_layers": True, "block_auto_adjust_ff_dim": True, "additional_vocab_size": 0}
    check_sizes({"text_config": switches}, Path("config.json"))
    with pytest.raises(ModelError, match="`head_dim` is 'True'; expected is a number"):
        check_sizes({"head_dim": True}, Path("config.json"))
