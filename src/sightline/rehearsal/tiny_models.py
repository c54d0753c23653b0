"""Tiny random vision-language models with their real processors, written to a folder and loaded back like a user's.

`save("llava", folder)` shrinks a real config (some 200,000 weights remain), scales the fresh weights so that outputs
are far from uniform, and writes model, processor and tokenizer. No network, no torchvision, no video processors.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from sightline.memory.shapes import read_shape
from sightline.models.processor import without_video
from sightline.rehearsal.tiny_config import GRID, nodes, shrink_config

VOCABULARY = 640
"""Tokens, or as many as the tokenizer has where its processor adds more."""

CORPUS = [
    "the quick brown fox jumps over the lazy dog. What is shown in this image? A red square and a blue circle.",
    "Describe the image in detail. user assistant system yes no left right green yellow number 0 1 2 3 4 5 6 7 8 9",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the config and the classes of a family do not say.

    image: what stands for an image in a prompt. tokens: further special tokens. named: special tokens by the
    tokenizer's attribute. config: values of the tiny config, by dotted key. images: the image processor's class where
    transformers' table has another. processor: options of the processor. told_by_images: whether the processor learns
    from its image processor how many tokens an image takes. chat: whether there is a chat template.
    """

    image: str = "<image>"
    tokens: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    images: str | None = None
    processor: Mapping[str, Any] = field(default_factory=dict)
    told_by_images: bool = False
    chat: bool = True


_LLAVA = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
_QWEN = Family(image="<|vision_start|><|image_pad|><|vision_end|>", tokens=("<|video_pad|>",))
_QWEN_3 = Family(image=_QWEN.image, tokens=_QWEN.tokens, images="Qwen2VLImageProcessorPil",
                 config={"vision_config.deepstack_visual_indexes": [0, 1]})  # fmt: skip
_PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
_IDEFICS = {"fake_image_token": "<fake_token_around_image>", "end_of_utterance_token": "<end_of_utterance>"}

FAMILIES: dict[str, Family] = {
    "gemma3": Family(
        image="<start_of_image>",
        named={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
    ),
    "idefics2": Family(tokens=tuple(_IDEFICS.values())),
    "idefics3": Family(tokens=(*_IDEFICS.values(), "<global-img>", *_PLACES), config={"scale_factor": 2}),
    "internvl": Family(
        image="<IMG_CONTEXT>\n",
        named={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "llava": Family(image="<image>\n", images="CLIPImageProcessorPil", processor=_LLAVA),
    "llava_next": Family(image="<image>\n", processor=_LLAVA),
    "mllama": Family(
        image="<|image|>",
        tokens=("<|python_tag|>",),
        config={
            "vision_config.intermediate_layers_indices": [0],
            "vision_config.vision_output_dim": 64,
            "vision_config.max_num_tiles": 2,
            "vision_config.supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
        },
    ),
    "paligemma": Family(told_by_images=True, chat=False),
    "qwen2_5_vl": _QWEN,
    "qwen2_vl": _QWEN,
    "qwen3_5": _QWEN,
    "qwen3_5_moe": _QWEN,
    "qwen3_vl": _QWEN_3,
    "qwen3_vl_moe": _QWEN_3,
    "smolvlm": Family(
        tokens=_PLACES,
        named={**_IDEFICS, "image_token": "<image>", "global_image_token": "<global-img>"},
        config={"scale_factor": 2},
    ),
}
"""By `model_type`."""

NAMED: dict[str, tuple[str, Mapping[str, Any]]] = {
    "gemma3": ("gemma-3-4b-it", {"text_config.sliding_window": 16}),
    "idefics2": ("idefics2-8b", {"text_config.sliding_window": None}),
    "idefics2_window": ("idefics2-8b", {"text_config.sliding_window": 12}),
    "idefics3": ("idefics3-8b-llama3", {}),
    "internvl": ("internvl3-1b", {}),
    "llava": ("llava-1.5-7b", {"text_config.num_key_value_heads": 2}),
    "llava_next": ("llava-v1.6-mistral-7b", {}),
    "mllama": ("llama-3.2-11b-vision-instruct", {}),
    "paligemma": ("paligemma-3b-224", {}),
    "paligemma2": ("paligemma2-3b-224", {"text_config.final_logit_softcapping": 3.0}),
    "qwen2_5_vl": ("qwen2.5-vl-7b-instruct", {}),
    "qwen2_vl": ("qwen2-vl-7b-instruct", {}),
    "qwen3_5": ("", {}),
    "qwen3_5_moe": ("", {}),
    "qwen3_vl": ("qwen3-vl-8b-instruct", {}),
    "qwen3_vl_moe": ("", {}),
    "smolvlm": ("smolvlm2-2.2b-instruct", {}),
}
"""Models by name: the published config that is shrunk (else transformers' own of that type), and values that differ."""


def save(model: str | hf.PretrainedConfig, folder: Path, seed: int = 0, *, head_size: int = 16) -> Path:
    """Write a tiny model and its processor to `folder`; the same seed writes the same weights.

    model: a name of `NAMED`, or the config of a real model whose family is one of `FAMILIES`.
    """
    if isinstance(model, str):
        shape, changes = NAMED[model]
        config = read_shape(shape) if shape else hf.AutoConfig.for_model(model)
    else:
        config, changes = model, {}
    torch.manual_seed(seed)
    made, processor = build(config, FAMILIES[config.model_type], changes, head_size=head_size)
    made.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build(
    real: hf.PretrainedConfig, family: Family, changes: Mapping[str, Any] | None = None, *, head_size: int = 16
) -> tuple[hf.PreTrainedModel, hf.ProcessorMixin]:
    """The tiny model of a real one's config, with fresh weights, and its processor."""
    tokenizer = make_tokenizer(*family.tokens, *re.findall(r"<[^<>]+>", family.image), **family.named)
    sizes = shrink_config(real, VOCABULARY, head_size=head_size)
    images = _image_processor(real.model_type, family, sizes)
    processor = _processor(real.model_type, family, images, tokenizer, sizes)
    # a processor may have added tokens of its own
    words = {**_token_ids(real, processor), **family.config, **(changes or {})}
    grids = getattr(images, "image_grid_pinpoints", None)
    config = shrink_config(
        real,
        VOCABULARY if len(tokenizer) <= VOCABULARY else len(tokenizer),
        {**words, **({"image_grid_pinpoints": grids} if grids else {})},
        head_size=head_size,
    )
    model = hf.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    _spread(model)
    # generation stops where the chat template ends a turn
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    tokens = _tokens_of_an_image(model, images)
    return model.eval(), _processor(real.model_type, family, images, tokenizer, config, tokens)


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


def make_tokenizer(*special: str, **named: str) -> hf.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with these special tokens; named ones become attributes such as `image_token`."""
    plain = tuple(token for token in dict.fromkeys(special) if token not in named.values())
    names = {"extra_special_tokens": named} if named else {}
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer((*plain, *named.values()))),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        padding_side="right",
        **names,
    )
    if plain:
        tokenizer.add_special_tokens({"additional_special_tokens": list(plain)})
    return tokenizer


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


def _token_ids(real: hf.PretrainedConfig, processor: Any) -> dict[str, int]:
    """Every token that the config names, at whatever depth, by its key: what processor or tokenizer call the same."""
    tokenizer, found = processor.tokenizer, {}
    for path, node in nodes(real.to_dict()):
        for key in node:
            name = re.sub(r"_(id|index)$", "", key)
            if not name.endswith("_token") or name == key:
                continue
            token = getattr(tokenizer, name, None) or getattr(processor, name, None) or f"<|{name[:-6]}|>"
            number = tokenizer.convert_tokens_to_ids(str(token))
            found[f"{path}.{key}".lstrip(".")] = tokenizer.unk_token_id if number is None else number
    return found


def _image_processor(model_type: str, family: Family, config: hf.PretrainedConfig) -> Any:
    """The family's image processor, at the size of the tiny vision tower."""
    kind = getattr(hf, family.images or str(IMAGE_PROCESSOR_MAPPING_NAMES[model_type]["pil"]))
    made, (patch, size) = kind(), _patch_and_size(config)
    merge = getattr(made, "merge_size", 1)
    new: dict[str, Any] = {}
    for name in ("size", "crop_size", "max_image_size"):
        given = getattr(made, name, None) or {}
        given = {side: pixels for side, pixels in dict(given).items() if pixels is not None}
        if given.get("longest_edge", 0) > 2**15:  # numbers of pixels, not edges
            new[name] = {"shortest_edge": (merge * patch) ** 2, "longest_edge": (8 * patch) ** 2}
        elif given.keys() == {"shortest_edge", "longest_edge"}:
            new[name] = {"shortest_edge": size // 2, "longest_edge": size}
        elif given.keys() == {"longest_edge"} and name == "size":
            new[name] = {"longest_edge": 2 * size}
        elif given:
            new[name] = dict.fromkeys(given, size)
    own = {
        "patch_size": patch,
        "image_grid_pinpoints": [[size, 2 * size], [2 * size, size], [2 * size, 2 * size]],
        "max_image_tiles": 2,
        "max_patches": 4,
    }
    new |= {name: value for name, value in own.items() if getattr(made, name, None) is not None}
    return kind(**new)


def _patch_and_size(config: hf.PretrainedConfig) -> tuple[int, int]:
    """Pixels of a patch and of an image, a side each."""
    vision = getattr(config, "vision_config", config)
    patch = vision.patch_size
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    return patch, GRID * patch


def _processor(
    model_type: str, family: Family, images: Any, tokenizer: Any, config: hf.PretrainedConfig, tokens: int | None = None
) -> Any:
    """The family's processor. tokens: of one image or tile, which some processors are told."""
    kind = getattr(hf, str(PROCESSOR_MAPPING_NAMES[model_type]))
    patch, _ = _patch_and_size(config)
    told = {"patch_size": patch, **dict.fromkeys(("image_seq_len", "image_seq_length"), tokens), **family.processor}
    options = {k: v for k, v in told.items() if v is not None and k in inspect.signature(kind.__init__).parameters}
    if family.chat:
        options["chat_template"] = CHAT_TEMPLATE.replace("IMAGE", family.image)
    if family.told_by_images:
        images.image_seq_length = tokens or 1
    if "video_processor" in kind.get_attributes():
        return without_video(kind)(images, tokenizer, None, **options)
    return kind(images, tokenizer, **options)


@torch.no_grad()
def _tokens_of_an_image(model: Any, images: Any) -> int | None:
    """Places that one image or tile takes in the prompt, asked of the model; None where it has no such features."""
    if not hasattr(model.model, "get_image_features"):
        return None
    _, size = _patch_and_size(model.config)
    made = images(images=[[Image.fromarray(np.zeros((size, size, 3), dtype=np.uint8))]], return_tensors="pt")
    found = model.model.get_image_features(**made)
    features = found if isinstance(found, torch.Tensor | list | tuple) else found.pooler_output
    features = features if isinstance(features, torch.Tensor) else torch.cat(list(features))
    tiles = made["pixel_values"].shape[:-3].numel()
    return features.numel() // features.shape[-1] // tiles
