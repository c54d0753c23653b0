"""Models and processors, loaded as transformers loads them and checked before anything is trained."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from sightline.attention.attention import NAME as SHARED_PREFIX
from sightline.attention.flex import NAME as FLEX
from sightline.attention.flex import OWN_NAME as OWN_FLEX
from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.families.family import Family
from sightline.models.families.find import FAMILIES, family_of, register_family
from sightline.models.families.refused import refusal
from sightline.models.folder_checks import check_finite, check_model_folder
from sightline.models.precision import cast_where_precision_changes
from sightline.models.processor import from_pretrained, refuse_foreign_code, set_options
from sightline.models.quantize import keep_eval_mode, number_of, quantization
from sightline.user_code import find_user_object

EMBEDDED = Path(__file__).parent.parent / "scenes" / "model"
"""Folder of the small model inside the package, `name: embedded`."""


def load_processor(config: ModelConfig) -> ProcessorMixin:
    """The processor that belongs to the model, with the recipe's options set.

    Raises ModelError where there is none, where it knows no images, does not match the model, or has no such option.
    """
    model_config = read_config(config)
    processor = from_pretrained(_folder(config), model_config, config.revision, config.trust_remote_code)
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise ModelError(
            f"The processor of {config.name!r} is a {type(processor).__name__}, which has no image processor and "
            "tokenizer of its own. A vision-language model's folder holds preprocessor_config.json or "
            "processor_config.json next to the tokenizer's files: copy them from the model's source."
        )
    _check_match(processor, model_config, config.name)
    set_options(processor, config.processor)
    return processor


def load_model(config: ModelConfig, device: str | torch.device = "cpu") -> PreTrainedModel:
    """The model on `device`, in evaluation mode, every weight frozen and in the precision of the recipe.

    `lora.add_lora` or `load.unfreeze` then makes it trainable. Raises ModelError where it is not a vision-language
    model, or files or weights are missing.
    """
    architecture = read_config(config)
    if config.family is not None:
        register_family(architecture.model_type, find_user_object(config.family, what="Family"), name=config.family)
    # a tower has no use for a mask of blocks
    language_only = config.attn_implementation in ("auto", FLEX)
    attention = None if language_only else config.attn_implementation
    if config.random_weights:
        model: Any = AutoModelForImageTextToText.from_config(architecture, attn_implementation=attention)
    else:
        model = _pretrained(config, architecture, torch.device(device), attention)
    if not config.random_weights:
        check_finite(model, config.name)
    model.requires_grad_(False)
    take_attention(model, config, torch.device(device))
    if config.quantize == "none":
        return model.to(device).eval()
    # quantised weights are made where they stay
    keep_eval_mode(model.eval())
    return model


def take_attention(model: PreTrainedModel, config: ModelConfig, device: torch.device) -> None:
    """Give the language model the attention that the recipe names, or, with auto, the one of shared prefixes.

    Raises `ModelError` where it cannot take it.
    """
    decoder: Any = model.get_decoder()
    shares = config.attn_implementation == "auto" and decoder.config._attn_implementation == "sdpa"
    if shares and device.type in ("cpu", "cuda") and family_of(model).layout == "prefix":
        decoder.set_attn_implementation(SHARED_PREFIX)
    if config.attn_implementation == FLEX:
        _take_flex_attention(decoder, config.name)


def _take_flex_attention(decoder: Any, name: str) -> None:
    """Sightline makes the block mask itself, so that any language model with a replaceable attention can have it."""
    if not decoder._supports_attention_backend:
        raise ModelError(
            f"`model.attn_implementation` is {FLEX!r}, which the language model of {name!r} ({type(decoder).__name__}) "
            "cannot take: its attention is not one that transformers can replace. Leave it out for `auto`, or take "
            "`sdpa`."
        )
    decoder.set_attn_implementation(FLEX if decoder._supports_flex_attn else OWN_FLEX)


def _pretrained(
    config: ModelConfig, architecture: PretrainedConfig, device: torch.device, attention: str | None
) -> PreTrainedModel:
    quantised = {}
    if config.quantize != "none":
        quantised = {"quantization_config": quantization(config, architecture), "device_map": {"": str(device)}}
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            _folder(config),
            revision=config.revision or "main",
            dtype=dtype_of(config, device),
            attn_implementation=attention,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **quantised,
        )
    except Exception as error:
        raise ModelError(
            f"The model {config.name!r} cannot be loaded: {_first_line(error)} Expected a folder or hub id with "
            "config.json and weights as safetensors that belong together."
        ) from error
    model, found = loaded
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ModelError(
            f"The weights of {config.name!r} lack {len(missing)} tensors that its config.json asks for, such as "
            f"{missing[0]!r}; they would start at random. Take weights and config.json from the same model."
        )
    return model


def unfreeze(model: PreTrainedModel, config: ModelConfig) -> PreTrainedModel:
    """Make all weights trainable but those that the recipe freezes; trainable weights become float32, in place.

    In bfloat16 an update of a thousandth of a weight is lost to rounding, so that small learning rates do nothing.
    """
    family = family_of(model)
    frozen = {"vision": config.freeze_vision, "projector": config.freeze_projector}
    for name, parameter in model.named_parameters():
        if not frozen.get(family.part_of(name), False):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    if family.features_take_tower_dtype and any(weight.dtype == torch.float32 for weight in model.parameters()):
        model.float()
    cast_where_precision_changes(model)
    return model


def trained_share(trained: int, total: int) -> str:
    """`55,348,736 of 8,458,116,848 parameters (0.654%)`; total: all parameters, an adapter's among them."""
    return f"{trained:,} of {total:,} parameters ({100 * trained / total:.3f}%)"


def trainable_summary(model: nn.Module) -> tuple[int, int, dict[str, int]]:
    """(trained weights, all weights, trained weights by part: language, vision, projector, head)."""
    family = family_of(model)
    total, by_part = 0, {}
    for name, parameter in family.model.named_parameters():
        total += number_of(parameter)
        if parameter.requires_grad:
            part = family.part_of(name)
            by_part[part] = by_part.get(part, 0) + parameter.numel()
    return sum(by_part.values()), total, by_part


def _folder(config: ModelConfig) -> str:
    if not config.name:
        raise ModelError("No model is named. Give `model.name`: a hub id, a folder, or `embedded`.")
    return str(EMBEDDED) if config.name == "embedded" else config.name


def read_config(config: ModelConfig) -> PretrainedConfig:
    """config.json of the model. Raises ModelError where there is none, or none of a vision-language model."""
    folder = _folder(config)
    looks_local = folder.startswith((".", "/", "~")) or Path(folder).exists()
    if looks_local and not (Path(folder) / "config.json").is_file():
        raise ModelError(
            f"The model folder {folder!r} {'has no config.json' if Path(folder).is_dir() else 'does not exist'}. "
            "Give `model.name` the folder that `save_pretrained` wrote, or a hub id."
        )
    if Path(folder).is_dir():
        check_model_folder(Path(folder))
    try:
        found = AutoConfig.from_pretrained(
            folder, revision=config.revision or "main", trust_remote_code=config.trust_remote_code
        )
    except Exception as error:  # whatever transformers raises for values that make no sense
        if isinstance(error, OSError | ValueError):
            refuse_foreign_code(error, config.name)
        raise ModelError(
            f"The model {config.name!r} cannot be found, or its config.json cannot be read: {_first_line(error)}"
        ) from error
    if type(found) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not config.trust_remote_code:
        raise ModelError(
            f"The model {config.name!r} is of type {found.model_type!r}, which is not a vision-language model that "
            "transformers can load for image-text-to-text. Name a VLM such as LLaVA, Idefics3, SmolVLM or Qwen2-VL."
        )
    if found.model_type not in FAMILIES and (reason := refusal(found)):
        raise ModelError(f"{config.name!r} cannot be trained here: it is {reason}. docs/models.md lists what can.")
    return found


def dtype_of(config: ModelConfig, device: torch.device) -> torch.dtype:
    """Precision of a model's frozen weights on this device."""
    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    if config.quantize != "none":
        return torch.bfloat16
    # what torch emulates is many times slower than float32
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float32


def _check_match(processor: ProcessorMixin, config: PretrainedConfig, name: str) -> None:
    tokenizer = processor.tokenizer
    rows = config.get_text_config().vocab_size
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows + FAMILIES.get(config.model_type, Family).extra_embeddings:
        raise ModelError(
            f"The processor of {name!r} does not match the model: its tokenizer has the id {highest}, the model has "
            f"{rows} embeddings. Load both from the same source."
        )
    expected = getattr(config, "image_token_id", None)
    found = [i for i in getattr(processor, "image_token_ids", []) if i is not None]
    if expected is not None and found and expected not in found:
        raise ModelError(
            f"The processor of {name!r} does not match the model: it marks images with token {found[0]}, the model "
            f"expects {expected}. Load both from the same source."
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
