"""Tiny random vision-language models with their real processors, written to a folder and loaded back like a user's.

`save("llava", folder)` builds a model from its config (some 100,000 weights), scales its weights so that its outputs
are far from uniform, and writes model, processor and tokenizer. No network, no torchvision, no video processors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from sightline.policy.processor import without_video

HIDDEN, LAYERS, HEADS, HEAD_SIZE, VOCABULARY = 64, 2, 4, 16, 640
VISION_HIDDEN, VISION_LAYERS, IMAGE, PATCH = 32, 2, 56, 14

CORPUS = [
    "the quick brown fox jumps over the lazy dog. What is shown in this image? A red square and a blue circle.",
    "Describe the picture in detail. user assistant system yes no left right green yellow number 0 1 2 3 4 5 6 7 8 9",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}PICTURE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Built:
    """A model and its processor, in memory."""

    model: hf.PreTrainedModel
    processor: hf.ProcessorMixin


def save(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny model of the family and its processor to `folder`; the same seed writes the same weights."""
    torch.manual_seed(seed)
    built = BUILDERS[family]()
    _spread(built.model)
    # generation stops where the chat template ends a turn
    built.model.generation_config.eos_token_id = built.processor.tokenizer.eos_token_id
    built.model.generation_config.pad_token_id = built.processor.tokenizer.pad_token_id
    built.model.save_pretrained(folder)
    built.processor.save_pretrained(folder)
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


@cache
def _trained_tokenizer(special: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    always = ["<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=[*always, *special], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.to_str()


def make_tokenizer(*special: str, **named: str) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with these special tokens; named ones become attributes such as `image_token`."""
    names = {"extra_special_tokens": named} if named else {}
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer((*special, *named.values()))),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        padding_side="right",
        **names,
    )
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def _language(tokenizer: hf.PreTrainedTokenizerFast, model_type: str = "llama", **others: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "tie_word_embeddings": False,
        **others,
    }


def _vision(**others: Any) -> dict[str, Any]:
    return {
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": 2 * VISION_HIDDEN,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": 2,
        "image_size": IMAGE,
        "patch_size": PATCH,
        **others,
    }


def _clip() -> dict[str, Any]:
    return _vision(model_type="clip_vision_model", projection_dim=VISION_HIDDEN)


def _siglip() -> dict[str, Any]:
    return _vision(model_type="siglip_vision_model", vision_use_head=False)


def _template(picture: str) -> str:
    return CHAT_TEMPLATE.replace("PICTURE", picture)


def _id(tokenizer: hf.PreTrainedTokenizerFast, token: str) -> int:
    return tokenizer.convert_tokens_to_ids(token)


def llava(**language: Any) -> Built:
    """LLaVA-1.5: CLIP, a projector of two layers, Llama."""
    tokenizer = make_tokenizer("<image>")
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE})
    select = {"vision_feature_select_strategy": "default"}
    processor = hf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        num_additional_image_tokens=1,
        chat_template=_template("<image>\n"),
        **select,
    )
    config = hf.LlavaConfig(
        text_config=_language(tokenizer, **language),
        vision_config=_clip(),
        image_token_id=_id(tokenizer, "<image>"),
        vision_feature_layer=-2,
        image_seq_length=(IMAGE // PATCH) ** 2,
        **select,
    )
    return Built(hf.LlavaForConditionalGeneration(config), processor)


def llava_next() -> Built:
    """LLaVA-NeXT: tiles of a picture, by the grid that fits it best."""
    tokenizer = make_tokenizer("<image>")
    grids = [[IMAGE, 2 * IMAGE], [2 * IMAGE, IMAGE], [2 * IMAGE, 2 * IMAGE]]
    images = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE}, image_grid_pinpoints=grids
    )
    select = {"vision_feature_select_strategy": "default"}
    processor = hf.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        num_additional_image_tokens=1,
        chat_template=_template("<image>\n"),
        **select,
    )
    config = hf.LlavaNextConfig(
        text_config=_language(tokenizer),
        vision_config=_clip(),
        image_token_id=_id(tokenizer, "<image>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-2,
        **select,
    )
    return Built(hf.LlavaNextForConditionalGeneration(config), processor)


def idefics2(window: int | None = None) -> Built:
    """Idefics2: pictures of any size, a perceiver, Mistral (with a sliding window where asked)."""
    tokenizer = make_tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>")
    images = hf.Idefics2ImageProcessorPil(
        size={"shortest_edge": IMAGE // 2, "longest_edge": IMAGE}, do_image_splitting=False
    )
    processor = hf.Idefics2Processor(images, tokenizer, image_seq_len=4, chat_template=_template("<image>"))
    config = hf.Idefics2Config(
        text_config=_language(tokenizer, "mistral", sliding_window=window),
        vision_config=_vision(),
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "num_key_value_heads": 1,
            "resampler_head_dim": 16,
        },
        image_token_id=_id(tokenizer, "<image>"),
    )
    return Built(hf.Idefics2ForConditionalGeneration(config), processor)


def idefics3() -> Built:
    """Idefics3: tiles and a small picture of the whole."""
    tokenizer, processor = _idefics3_processor(hf.Idefics3Processor)
    return Built(hf.Idefics3ForConditionalGeneration(hf.Idefics3Config(**_idefics3_config(tokenizer))), processor)


def smolvlm() -> Built:
    """SmolVLM: Idefics3 with a small language model, and a processor that also knows videos."""
    tokenizer, processor = _idefics3_processor(without_video(hf.SmolVLMProcessor))
    return Built(hf.SmolVLMForConditionalGeneration(hf.SmolVLMConfig(**_idefics3_config(tokenizer))), processor)


def _idefics3_processor(kind: type) -> tuple[hf.PreTrainedTokenizerFast, hf.ProcessorMixin]:
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    if issubclass(kind, hf.SmolVLMProcessor):
        named = {
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        }
        tokenizer = make_tokenizer(*places, **named)
        kind_of_images = hf.SmolVLMImageProcessorPil
    else:
        specials = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
        tokenizer = make_tokenizer(*specials, *places)
        kind_of_images = hf.Idefics3ImageProcessorPil
    images = kind_of_images(
        size={"longest_edge": 2 * IMAGE}, max_image_size={"longest_edge": IMAGE}, do_image_splitting=True
    )
    tokens_a_tile = (IMAGE // PATCH // 2) ** 2
    parts = [images, tokenizer] if kind is hf.Idefics3Processor else [images, tokenizer, None]
    return tokenizer, kind(*parts, image_seq_len=tokens_a_tile, chat_template=_template("<image>"))


def _idefics3_config(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "text_config": _language(tokenizer),
        "vision_config": _vision(),
        "image_token_id": _id(tokenizer, "<image>"),
        "scale_factor": 2,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
    }


def qwen2_vl() -> Built:
    """Qwen2-VL: pictures of any size, positions on three axes."""
    tokenizer, processor = _qwen_processor(hf.Qwen2VLProcessor, 14)
    vision = {
        "depth": VISION_LAYERS,
        "embed_dim": VISION_HIDDEN,
        "hidden_size": HIDDEN,
        "num_heads": 2,
        "mlp_ratio": 2,
        **_qwen_patches(14),
    }
    text = _language(tokenizer, "qwen2_vl_text", rope_parameters=_rope(), use_sliding_window=False)
    config = hf.Qwen2VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
    return Built(hf.Qwen2VLForConditionalGeneration(config), processor)


def _qwen_processor(kind: type, patch: int) -> tuple[hf.PreTrainedTokenizerFast, hf.ProcessorMixin]:
    tokenizer = make_tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    images = hf.Qwen2VLImageProcessorPil(
        patch_size=patch,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": (2 * patch) ** 2, "longest_edge": (8 * patch) ** 2},
    )
    template = _template("<|vision_start|><|image_pad|><|vision_end|>")
    return tokenizer, without_video(kind)(images, tokenizer, None, chat_template=template)


def _qwen_patches(patch: int) -> dict[str, int]:
    return {"patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2}


def _qwen_ids(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "image_token_id": _id(tokenizer, "<|image_pad|>"),
        "video_token_id": _id(tokenizer, "<|video_pad|>"),
        "vision_start_token_id": _id(tokenizer, "<|vision_start|>"),
        "vision_end_token_id": _id(tokenizer, "<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def _rope(**others: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3], **others}


BUILDERS: dict[str, Callable[[], Built]] = {
    "llava": llava,
    "llava_next": llava_next,
    "idefics2": idefics2,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "qwen2_vl": qwen2_vl,
}
