"""Tiny random vision-language models with their real processors, written to a folder and loaded back like a user's.

`save("llava", folder)` shrinks a real config (some 200,000 weights remain), scales the fresh weights so that outputs
are far from uniform, and writes model, processor and tokenizer. No network, no torchvision, no video processors.
"""

import inspect
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from sightline.errors import ModelError
from sightline.memory.shapes import read_shape
from sightline.models.processor import without_video
from sightline.rehearsal.stand_in import StandIn, features_of
from sightline.rehearsal.tiny_config import nodes, patch_and_size, shrink_config
from sightline.rehearsal.tiny_families import Family, family_for, processor_kind

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
    config, changes = (real_config(model), NAMED[model][1]) if isinstance(model, str) else (model, {})
    torch.manual_seed(seed)
    made, processor = build(config, family_for(config.model_type), changes, head_size=head_size)
    made.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def real_config(name: str) -> hf.PretrainedConfig:
    """A published config that comes with the package, else transformers' own of that type, whole."""
    shape, _ = NAMED.get(name, ("", {}))
    if shape:
        return read_shape(shape)
    config = hf.AutoConfig.for_model(name)
    left_out = [part for part in config.sub_configs if part.startswith("vision") and getattr(config, part) is None]
    return hf.AutoConfig.for_model(name, **{part: {} for part in left_out}) if left_out else config


def build(
    real: hf.PretrainedConfig, family: Family, changes: Mapping[str, Any] | None = None, *, head_size: int = 16
) -> tuple[hf.PreTrainedModel, hf.ProcessorMixin]:
    """The tiny model of a real one's config, with fresh weights, and its processor.

    Raises `ModelError` where transformers has no processor for it, or only with libraries that are missing.
    """
    kind = processor_kind(real.model_type, family)
    if kind is None or family.stand_in:
        raise ModelError(f"transformers has no processor for models of type {real.model_type!r} here.")
    tokenizer = make_tokenizer(*family.tokens, *re.findall(r"<[^<>]+>", family.image), **family.named)
    images = _image_processor(
        real.model_type, family, shrink_config(real, VOCABULARY, family.config, head_size=head_size)
    )
    told = _told(real, family, images)
    processor = _processor(real.model_type, kind, family, images, tokenizer, told)
    config = _config(real, family, processor, changes or {}, head_size)
    model = from_config(config)
    # generation stops where the chat template ends a turn
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    tokens = _tokens_of_an_image(model, images)
    return model, _processor(real.model_type, kind, family, images, tokenizer, _told(config, family, images, tokens))


def build_with_stand_in(real: hf.PretrainedConfig, changes: Mapping[str, Any]) -> tuple[hf.PreTrainedModel, StandIn]:
    """As `build`, for a type without a processor that can be made here."""
    family, token = family_for(real.model_type), "<image>"
    tokenizer = make_tokenizer(token, *family.tokens)
    keys = {f"{path}.{key}".lstrip("."): key for path, node in nodes(real.to_dict()) for key in node}
    images = ("image_token_id", "image_token_index", "image_patch_id")
    ids = {path: 3 for path, key in keys.items() if key.endswith(("_token_id", "_token_index"))}
    ids |= {path: _id(tokenizer, token) for path, key in keys.items() if key in images}
    ids |= {key: _id(tokenizer, word) for key, word in family.words.items()}
    values = {**ids, **family.config, **changes}
    try:
        sizes = shrink_config(real, VOCABULARY, values)
        made = None if family.stand_in not in ("", "own images") else _image_processor(real.model_type, family, sizes)
    except (ModelError, ImportError, TypeError):
        made = None
    if grids := getattr(made, "image_grid_pinpoints", None):
        values["image_grid_pinpoints"] = grids
    model = from_config(shrink_config(real, VOCABULARY, values))
    template = CHAT_TEMPLATE.replace("IMAGE", family.place or token + "\n")
    return model, StandIn(model, tokenizer, made, family.stand_in, template, token)


def _config(
    real: hf.PretrainedConfig, family: Family, processor: Any, changes: Mapping[str, Any], head_size: int
) -> hf.PretrainedConfig:
    """The tiny config, with the ids that this processor's tokenizer has."""
    # a processor may have added tokens of its own
    tokenizer = processor.tokenizer
    values = {**_token_ids(real, processor), **{k: _id(tokenizer, t) for k, t in family.words.items()}, **family.config}
    grids = getattr(processor.image_processor, "image_grid_pinpoints", None)
    if grids:
        values["image_grid_pinpoints"] = grids
    size = VOCABULARY if len(tokenizer) <= VOCABULARY else len(tokenizer)
    return shrink_config(real, size, {**values, **changes}, head_size=head_size)


def from_config(config: hf.PretrainedConfig) -> hf.PreTrainedModel:
    """A model with fresh weights in float32, spread so that an error shows."""
    model = hf.AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    _spread(model)
    return model.eval()


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
        elif name.endswith("A_log"):
            # decay by which a state lasts for some tokens; a fresh one forgets all at each
            weight.sub_(3.0)
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
            found[f"{path}.{key}".lstrip(".")] = _id(tokenizer, str(token))
    return found


def _id(tokenizer: Any, token: str) -> int:
    number = tokenizer.convert_tokens_to_ids(token)
    return tokenizer.unk_token_id if number is None else number


def _image_processor(model_type: str, family: Family, config: hf.PretrainedConfig) -> Any:
    """The family's image processor, at the size of the tiny vision tower."""
    kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type, {})
    kind = getattr(hf, family.images or str(kinds.get("pil") or kinds.get("torchvision")), None)
    if kind is None:
        raise ModelError(f"transformers has no image processor for models of type {model_type!r}.")
    made, (patch, size) = kind(), patch_and_size(config)
    merge = getattr(made, "merge_size", 1)
    new: dict[str, Any] = {}
    for name in ("size", "crop_size", "max_image_size", "high_res_size"):
        given = getattr(made, name, None) or {}
        if isinstance(given, int):
            new[name] = size
            continue
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
        "max_soft_tokens": 70,
    }
    new |= {name: value for name, value in own.items() if getattr(made, name, None) is not None}
    return kind(**new)


def _told(config: hf.PretrainedConfig, family: Family, images: Any, tokens: int | None = None) -> dict[str, Any]:
    """What processors take besides their parts. tokens: of one image or tile, which some are told."""
    patch, size = patch_and_size(config)
    vision = getattr(config, "vision_config", config)
    same = ("downsample_factor", "downsample_ratio", "downsample_rate", "spatial_merge_size",
            "vision_feature_select_strategy", "pixel_shuffle_ratio", "pooling_ratio")  # fmt: skip
    told = {name: getattr(config, name, getattr(vision, name, None)) for name in same}
    counts = ("image_seq_len", "image_seq_length", "num_image_tokens", "num_query_tokens")
    return {**told, "patch_size": patch, "img_size": size, **dict.fromkeys(counts, tokens), **family.processor}


def _processor(model_type: str, kind: Any, family: Family, images: Any, tokenizer: Any, told: Mapping[str, Any]) -> Any:
    """The family's processor."""
    taken = inspect.signature(kind.__init__).parameters
    options = {name: value for name, value in told.items() if value is not None and name in taken}
    if family.told_by_images:
        images.image_seq_length = told["image_seq_length"] or 1
    parts: dict[str, Any] = {"image_processor": images, "tokenizer": tokenizer}
    if "feature_extractor" in kind.get_attributes():
        parts["feature_extractor"] = _sounds(model_type)
    if "video_processor" in kind.get_attributes():
        kind, parts["video_processor"] = without_video(kind), None
    processor = kind(**parts, **options)
    if family.chat:
        # a word between two images: positions of some families are counted by runs of image tokens
        place = family.image or family.place or f"{getattr(processor, 'image_token', '')}\n"
        processor.chat_template = CHAT_TEMPLATE.replace("IMAGE", place)
    return processor


def _sounds(model_type: str) -> Any:
    """The audio part, which some processors insist on."""
    kinds: Mapping[str, Any] = FEATURE_EXTRACTOR_MAPPING_NAMES  # pyright: ignore[reportAssignmentType]
    kind = getattr(hf, str(kinds.get(model_type)), None)
    if kind is None:
        raise ModelError(f"transformers has no feature extractor for models of type {model_type!r}.")
    return kind()


@torch.no_grad()
def _tokens_of_an_image(model: Any, images: Any) -> int | None:
    """Places that one image or tile takes in the prompt, asked of the model; None where it has no such features."""
    tower = next((part for part in (getattr(model, "model", None), model) if hasattr(part, "get_image_features")), None)
    if tower is None:
        return None
    _, size = patch_and_size(model.config)
    made = images(images=[[Image.fromarray(np.zeros((size, size, 3), dtype=np.uint8))]], return_tensors="pt")
    read = inspect.signature(tower.get_image_features).parameters
    found = tower.get_image_features(**{name: value for name, value in made.items() if name in read}, return_dict=True)
    return len(features_of(found)) // made["pixel_values"].shape[:-3].numel()
