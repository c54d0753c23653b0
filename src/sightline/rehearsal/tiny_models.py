"""Tiny random vision-language models with their real processors, written to a folder and loaded back like a user's.

`save("llava", folder)` builds a model from its config (some 200,000 weights), scales its weights so that its outputs
are far from uniform, and writes model, processor and tokenizer. No network, no torchvision, no video processors.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from sightline.models.processor import without_video
from sightline.rehearsal.tiny_parts import (
    HIDDEN,
    IMAGE,
    PATCH,
    VISION_HIDDEN,
    VISION_LAYERS,
    Built,
    clip,
    language,
    make_tokenizer,
    others_of,
    siglip,
    template,
    token_id,
    vision,
)
from sightline.rehearsal.tiny_qwen import qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_vl, qwen3_vl_moe


def save(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny model of the family and its processor to `folder`; the same seed writes the same weights."""
    torch.manual_seed(seed)
    model, processor = BUILDERS[family]()
    _spread(model)
    # generation stops where the chat template ends a turn
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@torch.no_grad()
def _spread(model: hf.PreTrainedModel) -> None:
    """Fresh weights give nearly uniform outputs, in which an error would hide."""
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and not weight.any():
            weight.normal_(0, 0.06)
        elif weight.ndim >= 2:
            weight.mul_(3.0)
        elif "gate" in name:
            weight.fill_(0.7)
        else:
            weight.add_(torch.randn_like(weight) * 0.05)


def llava() -> Built:
    """LLaVA-1.5: CLIP, a projector of two layers, Llama."""
    tokenizer = make_tokenizer("<image>")
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE})
    processor = hf.LlavaProcessor(images, tokenizer, **_llava_processor())
    config = hf.LlavaConfig(**_llava_config(tokenizer), image_seq_length=(IMAGE // PATCH) ** 2)
    return hf.LlavaForConditionalGeneration(config), processor


def llava_next() -> Built:
    """LLaVA-NeXT: tiles of a picture, by the grid that fits it best."""
    tokenizer = make_tokenizer("<image>")
    grids = [[IMAGE, 2 * IMAGE], [2 * IMAGE, IMAGE], [2 * IMAGE, 2 * IMAGE]]
    crop = {"height": IMAGE, "width": IMAGE}
    images = hf.LlavaNextImageProcessorPil(size={"shortest_edge": IMAGE}, crop_size=crop, image_grid_pinpoints=grids)
    processor = hf.LlavaNextProcessor(images, tokenizer, **_llava_processor())
    config = hf.LlavaNextConfig(**_llava_config(tokenizer), image_grid_pinpoints=grids)
    return hf.LlavaNextForConditionalGeneration(config), processor


def _llava_processor() -> dict[str, Any]:
    return {
        "patch_size": PATCH,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
        "chat_template": template("<image>\n"),
    }


def _llava_config(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": language(tokenizer),
        "vision_config": clip(),
        "image_token_id": token_id(tokenizer, "<image>"),
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }


def idefics2(window: int | None = None) -> Built:
    """Idefics2: pictures of any size, a perceiver, Mistral (with a sliding window where asked)."""
    tokenizer = make_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>")
    size = {"shortest_edge": IMAGE // 2, "longest_edge": IMAGE}
    images = hf.Idefics2ImageProcessorPil(size=size, do_image_splitting=False)
    processor = hf.Idefics2Processor(images, tokenizer, image_seq_len=4, chat_template=template("<image>"))
    resampler = {"n_latents": 4, "depth": 1, "n_heads": 2, "head_dim": 16}
    config = hf.Idefics2Config(
        text_config=language(tokenizer, "mistral", sliding_window=window),
        vision_config=vision(),
        perceiver_config={f"resampler_{name}": value for name, value in resampler.items()} | {"num_key_value_heads": 1},
        image_token_id=token_id(tokenizer, "<image>"),
    )
    return hf.Idefics2ForConditionalGeneration(config), processor


def idefics3() -> Built:
    """Idefics3: tiles and a small picture of the whole."""
    specials = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = make_tokenizer(*specials, *_idefics3_places())
    images = hf.Idefics3ImageProcessorPil(**_idefics3_sizes())
    processor = hf.Idefics3Processor(images, tokenizer, **_idefics3_processor())
    return hf.Idefics3ForConditionalGeneration(hf.Idefics3Config(**_idefics3_config(tokenizer))), processor


def smolvlm() -> Built:
    """SmolVLM: Idefics3 with a small language model, and a processor that also knows videos."""
    named = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
    }
    tokenizer = make_tokenizer(*_idefics3_places(), **named)
    images = hf.SmolVLMImageProcessorPil(**_idefics3_sizes())
    processor = without_video(hf.SmolVLMProcessor)(images, tokenizer, None, **_idefics3_processor())
    return hf.SmolVLMForConditionalGeneration(hf.SmolVLMConfig(**_idefics3_config(tokenizer))), processor


def _idefics3_places() -> list[str]:
    return [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def _idefics3_sizes() -> dict[str, Any]:
    size, tile = {"longest_edge": 2 * IMAGE}, {"longest_edge": IMAGE}
    return {"size": size, "max_image_size": tile, "do_image_splitting": True}


def _idefics3_processor() -> dict[str, Any]:
    return {"image_seq_len": (IMAGE // PATCH // 2) ** 2, "chat_template": template("<image>")}


def _idefics3_config(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": language(tokenizer),
        "vision_config": vision(),
        "image_token_id": token_id(tokenizer, "<image>"),
        "scale_factor": 2,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
    }


def paligemma() -> Built:
    """PaliGemma: no chat template, as the base model; the prompt sees itself in both directions."""
    return _paligemma("gemma")


def paligemma2() -> Built:
    """PaliGemma 2: Gemma 2 with capped attention scores and logits, and a sliding window in every other layer."""
    return _paligemma("gemma2", sliding_window=4096, query_pre_attn_scalar=16, final_logit_softcapping=3.0)


def _paligemma(text: str, **others: Any) -> Built:
    tokenizer = make_tokenizer("<image>")
    images = hf.SiglipImageProcessorPil(size={"height": IMAGE, "width": IMAGE})
    images.image_seq_length = (IMAGE // PATCH) ** 2
    # it adds tokens for places and shapes to the tokenizer
    processor = hf.PaliGemmaProcessor(images, tokenizer)
    config = hf.PaliGemmaConfig(
        text_config=language(tokenizer, text, head_dim=16, vocab_size=len(tokenizer), **others),
        vision_config=siglip(),
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
        **others_of(image_token_id=token_id(tokenizer, "<image>")),
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> Built:
    """Gemma 3: pictures see themselves in both directions; a window of 16 tokens in the first layer."""
    tokenizer = make_tokenizer(
        boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    images = hf.Gemma3ImageProcessorPil(size={"height": IMAGE, "width": IMAGE})
    processor = hf.Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=template("<start_of_image>"))
    kinds = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    config = hf.Gemma3Config(
        text_config=language(tokenizer, "gemma3_text", head_dim=16, query_pre_attn_scalar=16, **kinds),
        vision_config=siglip(),
        mm_tokens_per_image=4,
        **others_of(
            image_token_id=tokenizer.image_token_id,
            boi_token_id=tokenizer.boi_token_id,
            eoi_token_id=tokenizer.eoi_token_id,
        ),
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def internvl() -> Built:
    """InternVL: tiles, pixel shuffle, Qwen2."""
    tokenizer = make_tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    size = {"height": IMAGE, "width": IMAGE}
    images = hf.GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, min_patches=1, max_patches=4)
    tokens = (IMAGE // PATCH // 2) ** 2
    chat = template("<IMG_CONTEXT>\n")
    processor = without_video(hf.InternVLProcessor)(
        images, tokenizer, None, image_seq_length=tokens, chat_template=chat
    )
    config = hf.InternVLConfig(
        text_config=language(tokenizer, "qwen2", use_sliding_window=False),
        vision_config=vision(image_size=[IMAGE, IMAGE], patch_size=[PATCH, PATCH]),
        image_token_id=token_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=tokens,
        downsample_ratio=0.5,
    )
    return hf.InternVLForConditionalGeneration(config), processor


def mllama() -> Built:
    """Mllama: one layer of cross-attention to the pictures' tiles."""
    tokenizer = make_tokenizer("<|image|>", "<|python_tag|>")
    images = hf.MllamaImageProcessorPil(size={"height": IMAGE, "width": IMAGE}, max_image_tiles=2)
    processor = hf.MllamaProcessor(images, tokenizer, chat_template=template("<|image|>"))
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    tower = {
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": 2 * VISION_HIDDEN,
        "num_hidden_layers": VISION_LAYERS,
        "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "vision_output_dim": 2 * VISION_HIDDEN,
        "intermediate_layers_indices": [0],
        "max_num_tiles": 2,
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }
    text = language(tokenizer, "mllama_text_model", cross_attention_layers=[1], rope_parameters=rope)
    config = hf.MllamaConfig(text_config=text, vision_config=tower, image_token_index=token_id(tokenizer, "<|image|>"))
    return hf.MllamaForConditionalGeneration(config), processor


BUILDERS: dict[str, Callable[[], Built]] = {
    "gemma3": gemma3,
    "idefics2": idefics2,
    "idefics2_window": lambda: idefics2(window=12),
    "idefics3": idefics3,
    "internvl": internvl,
    "llava": llava,
    "llava_next": llava_next,
    "mllama": mllama,
    "paligemma": paligemma,
    "paligemma2": paligemma2,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_vl": qwen2_vl,
    "qwen3_5": qwen3_5,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl_moe,
    "smolvlm": smolvlm,
}
"""By `model_type`; PaliGemma 2 shares PaliGemma's, and `idefics2_window` has a sliding window."""
