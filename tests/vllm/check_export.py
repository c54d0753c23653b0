"""An exported model in plain vLLM: the greedy answer about an image, and its log-probs, are those of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from sightline.config import LoraConfig, ModelConfig, Recipe
from sightline.export.export import export
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.recipe import dump_recipe
from tests.vllm.models import save

AGREE = 1e-3
"""Nats a token."""


@pytest.fixture(autouse=True, scope="module")
def one_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        yield


def trained(folder: Path, base: Path, quantize: str) -> Path:
    """What a run leaves: an adapter that moved far, and its recipe."""
    config = ModelConfig(name=str(base), quantize=quantize)  # pyright: ignore[reportArgumentType]
    policy = add_lora(load_model(config), LoraConfig(r=4))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in (p for p in policy.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    policy.save_pretrained(str(folder))
    (folder / "recipe.yaml").write_text(dump_recipe(Recipe(model=config, lora=LoraConfig(r=4))))
    return folder


def question(processor: Any) -> str:
    content = [{"type": "image"}, {"type": "text", "text": "What is in the image?"}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


@torch.no_grad()
def log_probs(folder: Path, prompt: str, image: Image.Image, answer: list[int]) -> torch.Tensor:
    """Transformers' log-probs of every word at each place of the answer, [tokens, vocabulary]; plain code."""
    processor = load_processor(ModelConfig(name=str(folder)))
    inputs: Any = processor(text=prompt, images=[image], return_tensors="pt")
    shape = inputs["input_ids"].shape
    for name, value in inputs.items():
        if value.shape == shape:
            added = (
                torch.tensor([answer])
                if name == "input_ids"
                else torch.full((1, len(answer)), int(name == "attention_mask"))
            )
            inputs[name] = torch.cat([value, added.to(value.dtype)], 1)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    return model(**inputs).logits[0, -len(answer) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize(("family", "quantize"), [("qwen2_vl", "none"), ("smolvlm", "nf4")])
def test_vllm_says_what_transformers_says(tmp_path: Path, family: str, quantize: str):
    run = trained(tmp_path / "run", save(family, tmp_path / "base"), quantize)
    export(str(run), tmp_path / "model", dtype="float32")
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (56, 70, 3), dtype=np.uint8))
    prompt = question(load_processor(ModelConfig(name=str(tmp_path / "model"))))
    # a model with random weights may answer with an image, which no model can read again
    banned = family_of(load_model(ModelConfig(name=str(tmp_path / "model")))).image_token_ids
    engine = LLM(
        model=str(tmp_path / "model"), dtype="float32", max_model_len=512, enforce_eager=True,
        limit_mm_per_prompt={"image": 1, "video": 0},
    )  # fmt: skip
    settings = SamplingParams(
        temperature=0, max_tokens=8, logprobs=0, ignore_eos=True, logit_bias=dict.fromkeys(banned, -100)
    )
    (found,) = engine.generate({"prompt": prompt, "multi_modal_data": {"image": image}}, settings)
    said = found.outputs[0]
    ids = list(said.token_ids)
    vllm = torch.tensor([place[token].logprob for token, place in zip(ids, said.logprobs, strict=True)])
    exact, base = (log_probs(tmp_path / name, prompt, image, ids) for name in ("model", "base"))
    exact[:, list(banned)] = -torch.inf
    places = torch.arange(len(ids))
    assert len(ids) == 8 and exact.argmax(-1).tolist() == ids
    assert (vllm - exact[places, ids]).abs().max() < AGREE < 0.05 < (vllm - base[places, ids]).abs().mean()
