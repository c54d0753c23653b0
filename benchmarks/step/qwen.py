"""Random models of Qwen2.5-VL's kind, in the sizes of Qwen/Qwen2.5-VL-3B-Instruct and -7B-Instruct on the hub."""

from dataclasses import dataclass

import transformers as hf

from benchmarks.step.random_model import CHAT_TEMPLATE, Built, make_tokenizer, random_model, token_ids
from sightline.models.processor import without_video

PATCH, MERGE = 14, 2


@dataclass(frozen=True, kw_only=True)
class QwenSizes:
    """image: side of an image in pixels; (image / 28)² tokens. tied: one matrix embeds and scores."""

    image: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    vision_intermediate: int
    full_attention_layers: tuple[int, ...]
    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    vocabulary: int
    tied: bool


QWEN_3B = QwenSizes(
    image=896, vision_hidden=1280, vision_layers=32, vision_heads=16, vision_intermediate=3420,
    full_attention_layers=(7, 15, 23, 31), hidden=2048, layers=36, heads=16, key_heads=2, intermediate=11008,
    vocabulary=151936, tied=True,
)  # fmt: skip
QWEN_7B = QwenSizes(
    image=896, vision_hidden=1280, vision_layers=32, vision_heads=16, vision_intermediate=3420,
    full_attention_layers=(7, 15, 23, 31), hidden=3584, layers=28, heads=28, key_heads=4, intermediate=18944,
    vocabulary=152064, tied=False,
)  # fmt: skip
QWEN_TOY = QwenSizes(
    image=224, vision_hidden=64, vision_layers=2, vision_heads=2, vision_intermediate=128,
    full_attention_layers=(1,), hidden=64, layers=2, heads=4, key_heads=2, intermediate=128, vocabulary=640, tied=True,
)  # fmt: skip


def qwen(sizes: QwenSizes, device: str) -> Built:
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
    processor = without_video(hf.Qwen2_5_VLProcessor)(images, tokenizer, None, chat_template=template)
    head_size = sizes.hidden // sizes.heads
    config = hf.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.intermediate,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.key_heads,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [head_size // 8, 3 * head_size // 16, 3 * head_size // 16],
            },
            **token_ids(tokenizer),
            "tie_word_embeddings": sizes.tied,
        },
        vision_config={
            "depth": sizes.vision_layers,
            "hidden_size": sizes.vision_hidden,
            "num_heads": sizes.vision_heads,
            "intermediate_size": sizes.vision_intermediate,
            "fullatt_block_indexes": list(sizes.full_attention_layers),
            "out_hidden_size": sizes.hidden,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=sizes.tied,
    )
    return Built(random_model(hf.Qwen2_5_VLForConditionalGeneration, config, device), processor)
