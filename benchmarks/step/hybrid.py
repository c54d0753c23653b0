"""Random models of Qwen3.5's kind: three layers of gated delta nets, one of attention, and so on."""

from dataclasses import dataclass

import transformers as hf

from benchmarks.step.random_model import CHAT_TEMPLATE, Built, make_tokenizer, random_model, token_ids
from sightline.models.processor import without_video

PATCH, MERGE, PERIOD = 16, 2, 4


@dataclass(frozen=True, kw_only=True)
class HybridSizes:
    """image: side of an image in pixels; (image / 32)² tokens. heads: of attention, half as many of keys; delta nets
    have as many of keys and twice as many of values, of half the size."""

    image: int
    vision_hidden: int
    vision_layers: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int


QWEN_40M = HybridSizes(
    image=512, vision_hidden=384, vision_layers=4, hidden=512, layers=8, heads=4, intermediate=1280, vocabulary=8192
)
HYBRID_TOY = HybridSizes(
    image=256, vision_hidden=64, vision_layers=2, hidden=64, layers=4, heads=2, intermediate=128, vocabulary=640
)


def hybrid(sizes: HybridSizes, device: str) -> Built:
    """Every image is scaled to `image` × `image` pixels."""
    tokenizer = make_tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    pixels = sizes.image**2
    images = hf.Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        size={"shortest_edge": pixels, "longest_edge": pixels},
    )
    template = CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = without_video(hf.Qwen3VLProcessor)(images, tokenizer, None, chat_template=template)
    head = sizes.hidden // sizes.heads
    half = head // 2
    config = hf.Qwen3_5Config(
        text_config={
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.intermediate,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.heads // 2,
            "head_dim": head,
            "linear_key_head_dim": half,
            "linear_value_head_dim": half,
            "linear_num_key_heads": sizes.heads,
            "linear_num_value_heads": 2 * sizes.heads,
            "full_attention_interval": PERIOD,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000_000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [half // 2 - 2 * (half // 6), half // 6, half // 6],
                "mrope_interleaved": True,
            },
            **token_ids(tokenizer),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": sizes.vision_layers,
            "hidden_size": sizes.vision_hidden,
            "num_heads": sizes.vision_hidden // 32,
            "intermediate_size": 4 * sizes.vision_hidden,
            "out_hidden_size": sizes.hidden,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Built(random_model(hf.Qwen3_5ForConditionalGeneration, config, device), processor)
