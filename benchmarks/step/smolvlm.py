"""Random models of SmolVLM's kind."""

from dataclasses import dataclass

import transformers as hf

from benchmarks.step.random_model import CHAT_TEMPLATE, Built, make_tokenizer, random_model, token_ids


@dataclass(frozen=True, kw_only=True)
class IdeficsSizes:
    """A model of SmolVLM's kind: tiles of `tile` pixels and one of the whole image."""

    tile: int
    patch: int
    vision_hidden: int
    vision_layers: int
    vision_heads: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    intermediate: int
    vocabulary: int


SMOLVLM_36M = IdeficsSizes(
    tile=224, patch=14, vision_hidden=384, vision_layers=6, vision_heads=6,
    hidden=512, layers=8, heads=8, key_heads=4, intermediate=1536, vocabulary=32000,
)  # fmt: skip
SMOLVLM_TOY = IdeficsSizes(
    tile=56, patch=14, vision_hidden=32, vision_layers=2, vision_heads=2,
    hidden=64, layers=2, heads=4, key_heads=2, intermediate=128, vocabulary=640,
)  # fmt: skip


def smolvlm(sizes: IdeficsSizes, grid: tuple[int, int], device: str) -> Built:
    """SmolVLM's language model and tower with Idefics3's processor, which is SmolVLM's without videos."""
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokenizer = make_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *places)
    images = hf.Idefics3ImageProcessorPil(
        size={"longest_edge": max(grid) * sizes.tile},
        max_image_size={"longest_edge": sizes.tile},
        do_image_splitting=grid != (1, 1),
    )
    processor = hf.Idefics3Processor(
        images,
        tokenizer,
        image_seq_len=(sizes.tile // sizes.patch // 2) ** 2,
        chat_template=CHAT_TEMPLATE.replace("IMAGE", "<image>"),
    )
    config = hf.SmolVLMConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": sizes.hidden,
            "intermediate_size": sizes.intermediate,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.key_heads,
            "vocab_size": sizes.vocabulary,
            "max_position_embeddings": 8192,
            **token_ids(tokenizer),
        },
        vision_config={
            "hidden_size": sizes.vision_hidden,
            "intermediate_size": 4 * sizes.vision_hidden,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.tile,
            "patch_size": sizes.patch,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Built(random_model(hf.SmolVLMForConditionalGeneration, config, device), processor)
