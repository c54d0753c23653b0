"""Adapters of every kind that peft saves: those that fit give peft's own answers, all others are named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from sightline.cli.main import main
from sightline.config import LoraConfig as Adapter
from sightline.config import ModelConfig, ReferenceConfig
from sightline.errors import ModelError
from sightline.evaluation.models import Models, source_of
from sightline.forward.reference import build_reference
from sightline.models.adapter import CONFIG, WEIGHTS, require_adapter, with_adapter
from sightline.models.load import EMBEDDED, load_model
from sightline.models.lora import add_lora

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("name", **options of peft)`: a trained adapter of the embedded model."""

    def written(name: str, *, outer: float = 0.3, **options) -> Path:
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_pretrained(EMBEDDED)
        given = {"r": 4, "lora_alpha": 8, "target_modules": r".*language_model.*(q_proj|v_proj)", **options}
        adapted = get_peft_model(model, LoraConfig(**given))
        for name_, weight in adapted.named_parameters():
            if "lora_B" in name_:
                torch.nn.init.normal_(weight, std=outer) if outer else None
            if "modules_to_save" in name_:
                weight.data += 0.1 * torch.randn_like(weight)
        adapted.save_pretrained(str(tmp_path / name))
        config = json.loads((tmp_path / name / CONFIG).read_text())
        (tmp_path / name / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": str(EMBEDDED)}))
        return tmp_path / name

    return written


def changed(folder: Path, to: str, *, keys: Callable[[str], str] = lambda key: key, **config) -> Path:
    """A copy with other names of tensors or other values in its adapter_config.json."""
    copy = folder.parent / to
    copy.mkdir()
    weights = load_file(folder / WEIGHTS)
    save_file({keys(name): value.clone() for name, value in weights.items()}, copy / WEIGHTS)
    (copy / CONFIG).write_text(json.dumps({**json.loads((folder / CONFIG).read_text()), **config}))
    return copy


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}


def test_an_adapter_has_the_weights_that_peft_loads(write):
    folder = write("right")
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(EMBEDDED), str(folder))
    ours = with_adapter(load_model(ModelConfig(name="embedded")), folder)
    for name, weight in weights_of(plain).items():
        assert torch.equal(weights_of(ours)[name], weight)
    assert len(weights_of(plain)) > 4


def test_names_of_an_older_transformers_still_fit(write):
    right = write("right")
    now, then = "base_model.model.model.language_model.layers", "base_model.model.language_model.model.layers"
    old = changed(right, "old", keys=lambda key: key.replace(now, then))
    found = weights_of(with_adapter(load_model(ModelConfig(name="embedded")), old))
    expected = weights_of(with_adapter(load_model(ModelConfig(name="embedded")), right))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.replace("model.model.language_model.layers", "model.model.layers"),
        lambda key: key if "layers.0." in key else key.replace("language_model", "language"),
        lambda key: f"module.{key}",
    ],
    ids=["of the bare language model", "all layers but one", "an engine's prefix"],
)
def test_an_adapter_whose_tensors_fit_no_layer_is_refused_everywhere(write, rename, capsys, tmp_path):
    folder = changed(write("right"), "wrong", keys=rename)
    with pytest.raises(ModelError, match="does not fit this model"):
        add_lora(load_model(ModelConfig(name="embedded")), Adapter(adapter=str(folder)))
    models = Models([source_of("embedded", str(folder))])
    with pytest.raises(ModelError, match="does not fit this model"), models.use("wrong"):
        pass
    assert main(["export", str(folder), str(tmp_path / "out")]) == 2
    assert "does not fit this model" in capsys.readouterr().err


BAD = [
    ("r", 0), ("r", -1), ("r", "4"), ("r", True), ("r", 2**31), ("r", 2),
    ("lora_alpha", "8"), ("lora_alpha", float("nan")), ("lora_alpha", 1e30),
    ("lora_dropout", 2), ("lora_dropout", "a"),
    ("target_modules", 7), ("target_modules", "(("), ("target_modules", ["q_proj", 3]), ("target_modules", "nothing"),
    ("init_lora_weights", "evil"), ("init_lora_weights", "loftq"), ("layer_replication", [[0, 2]]),
    ("megatron_core", "evil_library"), ("megatron_config", {"a": 1}),
    ("peft_type", "IA3"), ("peft_type", None), ("rank_pattern", {"q_proj": "big"}), ("rank_pattern", [1]),
    ("base_model_name_or_path", 7), ("modules_to_save", "lm_head("), ("rank_pattern", {"(": 4}),
    ("trainable_token_indices", [10**9]), ("exclude_modules", "*"),
]  # fmt: skip


@pytest.mark.parametrize("key, value", BAD, ids=[f"{key} {value!r:.20}" for key, value in BAD])
def test_a_config_that_peft_would_fail_on_is_named(write, key, value):
    folder = changed(write("right"), "wrong", **{key: value})
    with pytest.raises(ModelError, match=r"adapter_config.json|does not fit this model"):
        add_lora(load_model(ModelConfig(name="embedded")), Adapter(adapter=str(folder)))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": "(([a-z_.0-9]+)+)+!"},
        {"rank_pattern": {"(([a-z_.0-9]+)+)+!": 2}},
        {"exclude_modules": "(.*)*!"},
    ],
    ids=["target_modules", "rank_pattern", "exclude_modules"],
)
def test_a_pattern_that_never_ends_is_named(write, config, monkeypatch):
    monkeypatch.setattr("sightline.models.trial.SECONDS", 1)
    folder = changed(write("right"), "wrong", **config)
    with pytest.raises(ModelError, match=f"adapter_config.json: {next(iter(config))}: .* is not done after 1 s"):
        add_lora(load_model(ModelConfig(name="embedded")), Adapter(adapter=str(folder)))


@pytest.mark.parametrize("options", [{"modules_to_save": ["lm_head"]}, {"target_modules": ["lm_head", "q_proj"]}])
def test_an_adapter_of_the_output_embedding_is_refused_in_words_of_the_adapter(write, options):
    folder = write("head", **options)
    with pytest.raises(ModelError, match=r"\(`lora.adapter`\) adapts the output embedding .*merge_and_unload"):
        add_lora(load_model(ModelConfig(name="embedded")), Adapter(adapter=str(folder)))


def test_a_bias_that_no_merged_layer_could_hold_is_named(write, capsys, tmp_path):
    folder = write("biased", lora_bias=True)
    assert main(["export", str(folder), str(tmp_path / "out")]) == 2
    assert "`lora_bias: true`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\x80\x81", b"7", b"[" * 100_000])
def test_a_config_that_is_no_object_is_named(write, text):
    folder = write("right")
    (folder / CONFIG).write_bytes(text)
    with pytest.raises(ModelError, match=r"adapter_config.json"):
        require_adapter(str(folder))


@pytest.mark.parametrize("damage", ["truncated", "empty", "whole numbers", "nan"])
def test_damaged_weights_are_named(write, damage):
    folder = write("right")
    path = folder / WEIGHTS
    weights = load_file(path)
    first = sorted(weights)[0]
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "whole numbers":
        save_file({**weights, first: weights[first].to(torch.int64)}, path)
    else:
        save_file({**weights, first: torch.full_like(weights[first], torch.nan)}, path)
    with pytest.raises(ModelError, match=r"damaged|stored as I64|NaN"):
        add_lora(load_model(ModelConfig(name="embedded")), Adapter(adapter=str(folder)))


@pytest.mark.parametrize("label", ["train", "eval", "keys", "type", "half", "weight", "lora_A", "update", "a.b"])
def test_a_run_may_be_called_like_anything_inside_torch(write, label):
    right = write("right")
    named = changed(right, label)
    models = Models([source_of("embedded", str(named))])
    expected = weights_of(with_adapter(load_model(ModelConfig(name="embedded")), right))
    with models.use(label) as (model, _):
        found = list(weights_of(model).values())
    assert all(torch.equal(a, b) for a, b in zip(found, expected.values(), strict=True))


@pytest.mark.parametrize("module", ["multi_modal_projector", "embed_tokens"])
def test_an_adapter_that_trained_only_whole_modules_has_a_copy_of_itself_as_reference(write, module):
    folder = write("whole", outer=0.0, modules_to_save=[module])
    policy = add_lora(load_model(ModelConfig(name="embedded")), Adapter(adapter=str(folder)))
    reference = build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    assert reference is not None and reference.mode == "frozen-copy"
