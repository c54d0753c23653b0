"""Tiny random models of the Qwen-VL families; see `tiny_models`."""

from typing import Any

import transformers as hf

from sightline.models.processor import without_video
from sightline.rehearsal.tiny_parts import (
    HIDDEN,
    LAYERS,
    VISION_HIDDEN,
    VISION_LAYERS,
    Built,
    language,
    make_tokenizer,
    template,
    token_id,
)


def qwen2_vl() -> Built:
    """Qwen2-VL: pictures of any size, positions on three axes."""
    tokenizer, processor = _qwen_processor(hf.Qwen2VLProcessor, 14)
    tower = {"depth": VISION_LAYERS, "embed_dim": VISION_HIDDEN, "hidden_size": HIDDEN, "mlp_ratio": 2}
    text = language(tokenizer, "qwen2_vl_text", rope_parameters=_rope(), use_sliding_window=False)
    config = hf.Qwen2VLConfig(text_config=text, vision_config=tower | _patches(14), **_qwen_ids(tokenizer))
    return hf.Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl() -> Built:
    """Qwen2.5-VL: windows in the vision tower."""
    tokenizer, processor = _qwen_processor(hf.Qwen2_5_VLProcessor, 14)
    tower = _qwen_tower(14) | {"window_size": 4 * 14, "fullatt_block_indexes": [VISION_LAYERS - 1]}
    text = language(tokenizer, "qwen2_5_vl_text", rope_parameters=_rope(), use_sliding_window=False)
    config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=tower, **_qwen_ids(tokenizer))
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> Built:
    """Qwen3-VL: features of two layers of the tower enter as many layers of the language model."""
    tokenizer, processor = _qwen_processor(hf.Qwen3VLProcessor, 16)
    tower = _qwen_tower(16) | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    text = language(tokenizer, "qwen3_vl_text", head_dim=16, rope_parameters=_rope())
    config = hf.Qwen3VLConfig(text_config=text, vision_config=tower, **_qwen_ids(tokenizer))
    return hf.Qwen3VLForConditionalGeneration(config), processor


def qwen3_vl_moe() -> Built:
    """Qwen3-VL with four experts, of which a token takes two."""
    tokenizer, processor = _qwen_processor(hf.Qwen3VLProcessor, 16)
    tower = _qwen_tower(16) | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": HIDDEN}
    text = language(tokenizer, "qwen3_vl_moe_text", head_dim=16, rope_parameters=_rope(), **experts)
    config = hf.Qwen3VLMoeConfig(text_config=text, vision_config=tower, **_qwen_ids(tokenizer))
    return hf.Qwen3VLMoeForConditionalGeneration(config), processor


def qwen3_5() -> Built:
    """Qwen3.5: every other layer is linear attention."""
    tokenizer, processor = _qwen_processor(hf.Qwen3VLProcessor, 16)
    rope = _rope() | {"partial_rotary_factor": 0.5, "mrope_interleaved": True, "mrope_section": [2, 1, 1]}
    linear = {"value_heads": 4, "key_heads": 2}
    text = language(
        tokenizer,
        "qwen3_5_text",
        head_dim=16,
        rope_parameters=rope,
        layer_types=["linear_attention", "full_attention"] * (LAYERS // 2),
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        **{f"linear_num_{name}": number for name, number in linear.items()},
    )
    tower = _qwen_tower(16) | {"num_position_embeddings": 64}
    config = hf.Qwen3_5Config(text_config=text, vision_config=tower, **_qwen_ids(tokenizer))
    return hf.Qwen3_5ForConditionalGeneration(config), processor


def _qwen_processor(kind: type, patch: int) -> tuple[hf.PreTrainedTokenizerFast, hf.ProcessorMixin]:
    tokenizer = make_tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    size = {"shortest_edge": (2 * patch) ** 2, "longest_edge": (8 * patch) ** 2}
    images = hf.Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, temporal_patch_size=2, size=size)
    chat = template("<|vision_start|><|image_pad|><|vision_end|>")
    return tokenizer, without_video(kind)(images, tokenizer, None, chat_template=chat)


def _patches(patch: int) -> dict[str, int]:
    return {"num_heads": 2, "patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2}


def _qwen_tower(patch: int) -> dict[str, Any]:
    widths = {"hidden_size": VISION_HIDDEN, "out_hidden_size": HIDDEN, "intermediate_size": 2 * VISION_HIDDEN}
    return {"depth": VISION_LAYERS, **widths, **_patches(patch)}


def _qwen_ids(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "image_token_id": token_id(tokenizer, "<|image_pad|>"),
        "video_token_id": token_id(tokenizer, "<|video_pad|>"),
        "vision_start_token_id": token_id(tokenizer, "<|vision_start|>"),
        "vision_end_token_id": token_id(tokenizer, "<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def _rope() -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
