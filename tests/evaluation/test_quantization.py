"""An adapter answers on the weights that it was trained on, and leaves those of others alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from sightline.config import LoraConfig, ModelConfig
from sightline.evaluation.models import Models, Source, source_of
from sightline.evaluation.quantization import WHOLE, Bits, bits_note, bits_of, recipe_of
from sightline.export.agreement import probe, score
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora


def trained(folder: Path, base: str, quantize: str = "none", **lora) -> Tensor:
    """Leaves an adapter that was moved and a recipe as a run does; what the policy says to the probe."""
    config = ModelConfig(name=base, quantize=quantize)  # pyright: ignore[reportArgumentType]
    policy = add_lora(load_model(config), LoraConfig(r=4, **lora))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    policy.save_pretrained(str(folder))
    load_processor(config).save_pretrained(folder)
    (folder / "recipe.yaml").write_text(f"model: {{name: {base}, quantize: {quantize}}}\nlora: {{r: 4}}\n")
    return said(policy, base)


def said(model: nn.Module, base: str) -> Tensor:
    return score(model, probe(load_processor(ModelConfig(name=base))))


def answers(models: Models, base: str, *labels: str) -> list[Tensor]:
    found = []
    for label in labels:
        with models.use(label) as (model, _):
            found.append(said(model, base))
    return found


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_quantised_run_answers_on_its_rounded_base_and_so_does_the_base_beside_it(tmp_path, tiny_model, kind):
    base = str(tiny_model("llava"))
    expected = trained(tmp_path / "run", base, kind)
    run = source_of(str(tmp_path / "run"))
    models = Models([Source("base", base), run], device="cpu")
    start, tuned = answers(models, base, "base", "run")
    assert torch.equal(tuned, expected)
    rounded, whole = (said(load_model(ModelConfig(name=base, quantize=q)), base) for q in (kind, "none"))
    assert torch.equal(start, rounded) and not torch.equal(start, whole)
    assert len(models._bases) == 1, "one set of weights serves both"
    assert models.origin("base")["quantize"] == models.origin("run")["quantize"] == kind
    assert source_of(base, str(tmp_path / "run")).bits == run.bits, "named as `--adapter`, too"
    on_whole = PeftModel.from_pretrained(load_model(ModelConfig(name=base, dtype="bfloat16")), str(tmp_path / "run"))
    assert not torch.equal(said(on_whole, base), expected)


def test_a_base_beside_runs_in_different_bits_is_whole(tmp_path, tiny_model):
    base, rounded = str(tiny_model("llava")), Bits("nf4")
    sources = [Source("a", base, "runs/a", bits=rounded), Source("b", base, "runs/b"), Source("base", base)]
    assert Models(sources).sources["base"].bits == WHOLE
    assert Models([sources[0], sources[2]]).sources["base"].bits == rounded
    elsewhere = Path(base).parent / "." / ".." / Path(base).parent.name / Path(base).name
    assert Models([sources[0], Source("base", str(elsewhere))]).sources["base"].bits == rounded
    assert Models([sources[0], Source("other", "org/model")]).sources["other"].bits == WHOLE


def test_best_weights_and_checkpoints_have_the_recipe_of_their_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {name: m, quantize: nf4, double_quantize: false}\nlora: {}\n")
    for name in ("best", "checkpoint-20"):
        recipe = recipe_of(tmp_path / name)
        assert recipe is not None and bits_of(recipe.model) == Bits("nf4", double_quantize=False)
    assert recipe_of(tmp_path / "adapter") is None


def test_one_sentence_says_whose_weights_are_in_fewer_bits():
    kept = {"base": Bits("nf4"), "sft": WHOLE, "dpo": Bits("nf4")}
    assert bits_note(kept) == (
        "Weights are kept as their runs were trained: nf4 (language) for base, dpo; whole for sft."
    )
    assert bits_note({"base": WHOLE}) is None
    assert str(Bits("nf4", False, ("language", "vision"))) == "nf4 (language, vision, scales not quantised)"


@pytest.mark.parametrize("keep", [1, 4])
def test_pissa_takes_nothing_out_of_the_base_that_others_answer_on(
    tmp_path, tiny_model: Callable[[str], Path], keep: int
):
    base = str(tiny_model("llava"))
    expected = {name: trained(tmp_path / name, base, init=name) for name in ("pissa", "default")}
    sources = [Source("base", base), *(source_of(str(tmp_path / name)) for name in expected)]
    models = Models(sources, device="cpu", keep=keep)
    before, default, pissa, after, again = answers(models, base, "base", "default", "pissa", "base", "default")
    assert torch.equal(before, said(load_model(ModelConfig(name=base)), base)) and torch.equal(before, after)
    assert torch.equal(default, expected["default"]) and torch.equal(default, again)
    torch.testing.assert_close(pissa, expected["pissa"], rtol=1e-4, atol=1e-4)
    assert float((pissa - before).abs().mean()) > 0.05
