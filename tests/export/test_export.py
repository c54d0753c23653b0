"""An exported model is the trained one, as plain transformers loads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from sightline.cli.main import main
from sightline.config import LoraConfig, ModelConfig
from sightline.errors import ModelError, UserError
from sightline.export import agreement as agreements
from sightline.export.agreement import agreement, probe, score
from sightline.export.export import export
from sightline.export.merge import load_base, unpacked
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from tests.training.runs import pairs, run

DRAWS = True

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """A finished run, with curves."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(folder, tiny_model("llava"), pairs(8), max_steps=2, learning_rate=1e-2, data={"val_size": 2})
    return folder


def adapted(model: str, folder: Path, quantize: str = "none", **lora) -> nn.Module:
    """A policy whose adapter was moved, and its adapter's folder as a run leaves it."""
    config = ModelConfig(name=model, quantize=quantize)  # pyright: ignore[reportArgumentType]
    policy = add_lora(load_model(config), LoraConfig(r=4, **lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.02 if "magnitude" in name else 0.05))
    policy.save_pretrained(str(folder))
    return policy


def keys(folder: Path) -> dict[str, tuple]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "smolvlm", "gemma3", "internvl", "idefics2", "qwen3_vl"])
def test_merged_weights_load_in_plain_transformers_and_say_what_the_adapter_said(tmp_path, tiny_model: Folder, family):
    base = str(tiny_model(family))
    policy = adapted(base, tmp_path / "adapter")
    group = probe(load_processor(ModelConfig(name=base)))
    expected = score(policy, group)
    done = export(str(tmp_path / "adapter"), tmp_path / "model", dtype="float32")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert not isinstance(plain, PeftModel) and not any("lora" in name for name, _ in plain.named_modules())
    assert difference(score(plain, group), expected) < 1e-4 < 0.05 < done.agreement.effect
    assert keys(tmp_path / "model") == keys(tiny_model(family)), "the names that the hub's models and vLLM have"
    assert load_processor(ModelConfig(name=str(tmp_path / "model"))).tokenizer is not None


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"init": "pissa"}, {"use_rslora": True}], ids=str)
def test_so_do_the_variants_of_lora(tmp_path, tiny_model: Folder, lora):
    base = str(tiny_model("llava"))
    expected = score(adapted(base, tmp_path / "adapter", **lora), probe(load_processor(ModelConfig(name=base))))
    done = export(str(tmp_path / "adapter"), tmp_path / "model", dtype="float32")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    group = probe(load_processor(ModelConfig(name=base)))
    assert difference(score(plain, group), expected) < 1e-3
    start = score(load_model(ModelConfig(name=base)), group)
    assert done.agreement.effect == pytest.approx(difference(start, expected), rel=1e-3), "not PiSSA's rest of the base"


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_from_a_quantised_run_comes_what_was_trained_in_bfloat16(tmp_path, tiny_model: Folder, kind):
    base = str(tiny_model("llava"))
    folder = tmp_path / "run"
    result = run(
        folder,
        Path(base),
        pairs(8),
        **{"model": {"name": base, "quantize": kind}, "max_steps": 3, "learning_rate": 3e-2},
    )
    group = probe(result.processor)
    assert result.model is not None
    expected = score(result.model, group)
    done = export(str(folder), tmp_path / "model")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert {p.dtype for p in plain.parameters()} == {torch.bfloat16}
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "quantization_config" not in config and keys(tmp_path / "model") == keys(tiny_model("llava"))
    found = score(plain, group)
    assert difference(found, expected) < 0.1, "bfloat16's rounding"
    # merging into the weights that were rounded away would be another model
    whole = PeftModel.from_pretrained(load_model(ModelConfig(name=base, dtype="bfloat16")), str(folder))
    assert kind == "int8" or difference(score(whole, group), expected) > 2 * difference(found, expected)
    assert done.agreement.difference < done.agreement.effect


def test_unpacked_layers_are_what_their_bits_stand_for(tiny_model: Folder):
    name = str(tiny_model("llava"))
    exact = dict(load_model(ModelConfig(name=name)).named_modules())
    for kind, error in (("nf4", 0.13), ("int8", 0.02)):
        config = ModelConfig(name=name, quantize=kind)  # pyright: ignore[reportArgumentType]
        plain = dict(load_base(config, "cpu").named_modules())
        quantised = [n for n, m in load_model(config).named_modules() if unpacked(m) is not None]
        assert len(quantised) == 14
        for layer in quantised:
            found, before = plain[layer], exact[layer]
            assert isinstance(found, nn.Linear) and isinstance(before, nn.Linear)
            weight, origin = found.weight.float(), before.weight.float()
            assert 0 < float((weight - origin).norm() / origin.norm()) < error, layer


def test_an_exported_run_has_processor_generation_config_curves_and_a_card(tmp_path, trained, tiny_model: Folder):
    export(str(trained), tmp_path / "model")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {
        "config.json", "model.safetensors", "generation_config.json", "processor_config.json", "tokenizer.json",
        "README.md", "curves",
    } <= names  # fmt: skip
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]
    assert AutoProcessor.from_pretrained(tmp_path / "model").tokenizer is not None
    kept = GenerationConfig.from_pretrained(tmp_path / "model")
    assert kept.eos_token_id == GenerationConfig.from_pretrained(tiny_model("llava")).eos_token_id
    text = (tmp_path / "model" / "README.md").read_text()
    figures = json.loads((trained / "sightline.json").read_text())["metrics"]
    assert text.startswith("---\nbase_model: ") and "pipeline_tag: image-text-to-text" in text
    assert f"| rewards/margins | {figures['rewards/margins']:.6g} |" in text
    assert "type: dpo" in text and "learning_rate: 0.01" in text and "nats per token" in text
    assert "![loss](curves/loss.png)" in text and (tmp_path / "model" / "curves" / "loss.png").stat().st_size > 1000


def test_a_run_of_all_weights_is_exported_too(tmp_path, tiny_model: Folder):
    result = run(tmp_path / "run", tiny_model("llava"), pairs(8), lora=None, max_steps=1, objective={"type": "sft"})
    export(str(tmp_path / "run"), tmp_path / "model", dtype="float32")
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert result.model is not None
    trained = dict(result.model.named_parameters())
    assert torch.equal(plain.lm_head.weight, trained["lm_head.weight"])


def test_a_merge_that_went_wrong_is_found_and_nothing_is_written(tmp_path, tiny_model: Folder, monkeypatch):
    adapted(str(tiny_model("llava")), tmp_path / "adapter")
    monkeypatch.setattr("peft.tuners.lora.layer.Linear.merge", lambda *_, **__: None)
    with pytest.raises(ModelError, match="more than rounding"):
        export(str(tmp_path / "adapter"), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_an_adapter_that_rounding_swallows_is_said_to_be(tmp_path, tiny_model: Folder, capsys):
    policy = add_lora(load_model(ModelConfig(name=str(tiny_model("llava")))), LoraConfig(r=2))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(1e-6)
    policy.save_pretrained(str(tmp_path / "adapter"))
    assert main(["export", str(tmp_path / "adapter"), str(tmp_path / "model")]) == 0
    assert "rounds away" in capsys.readouterr().out.replace("\n", " ")
    assert main(["export", str(tmp_path / "adapter"), str(tmp_path / "again"), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["folder"] == str(tmp_path / "again") and found["address"] is None and "rounds away" in told.err
    assert found["agreement"]["dtype"] == "bfloat16" and found["agreement"]["effect"] > 0


def test_the_comparison_tells_rounding_from_another_model():
    trained, base = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -2.5])
    good = agreement(trained, base, trained + 0.01, torch.bfloat16)
    assert good.is_kept and round(good.effect, 6) == 0.5 and round(good.difference, 6) == 0.01
    with pytest.raises(ModelError, match="float32"):
        agreement(trained, base, base, torch.bfloat16)
    assert set(agreements.ALLOWED) == {torch.float32, torch.bfloat16, torch.float16}


def test_mistakes_are_one_paragraph_and_exit_with_two(tmp_path, trained, capsys):
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "model")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["export", str(tmp_path / "empty"), str(tmp_path / "model")]) == 2
    assert "no model (config.json)" in capsys.readouterr().err
    (tmp_path / "damaged").mkdir()
    shutil.copy(trained / "adapter_config.json", tmp_path / "damaged")
    (tmp_path / "damaged" / "adapter_model.safetensors").write_bytes(
        (trained / "adapter_model.safetensors").read_bytes()[:999]
    )
    assert main(["export", str(tmp_path / "damaged"), str(tmp_path / "model")]) == 2
    assert "adapter_model.safetensors is damaged" in capsys.readouterr().err
    assert main(["export", str(trained), str(trained)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["export", str(trained), str(tmp_path / "m"), "--private"]) == 2
    with pytest.raises(UserError, match="does not say which model"):
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
        export(str(tmp_path / "adapter"), tmp_path / "model")
