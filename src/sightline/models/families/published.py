"""A model's processor where its files are not at hand: its class, with the settings that the model is published with.

Nothing of what it does to an image is written down here; it is asked. Its tokenizer has no words, only the tokens that
processors write around images: what a prompt becomes is right in length and in the places of its images.
"""

import math
from collections.abc import Callable
from typing import Any

import transformers as hf
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from sightline.errors import ModelError
from sightline.models.processor import set_options, without_video

NAMES = {
    "image_token": "<image>",
    "context_image_token": "<image>",
    "image_boundary_token": "<fake_token_around_image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "video_token": "<video>",
    "audio_token": "<audio>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
}
"""What processors ask their tokenizer for; `image_token` is what stands for images in the end."""
PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
"""Where a tile was cut from, as Idefics3 and SmolVLM write it."""


def published_processor(config: hf.PretrainedConfig, options: dict[str, Any]) -> Any:
    """The processor of a model with this configuration; options: of `model.processor` (`longest_edge`, …).

    Raises ModelError for a kind of model that is not known here, or an option that its processor does not know.
    """
    if config.model_type not in PUBLISHED:
        raise ModelError(
            f"How a model of type {config.model_type!r} cuts up images is not known without its processor. Give "
            f"`model.name` a folder that holds config.json and the processor's files. Known: {', '.join(PUBLISHED)}."
        )
    processor = PUBLISHED[config.model_type](config)
    set_options(processor, options)
    return processor


def _tokenizer() -> hf.PreTrainedTokenizerFast:
    """Every word is one unknown token, as are line breaks one after another."""
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    breaks = pre_tokenizers.Split(Regex(r"\n+"), "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), breaks])
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<unk>", bos_token="<s>", extra_special_tokens=NAMES
    )
    tokenizer.add_tokens(PLACES, special_tokens=True)
    return tokenizer


def _llava(config: Any) -> hf.ProcessorMixin:
    side = config.vision_config.image_size
    crop = {"height": side, "width": side}
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop)
    return hf.LlavaProcessor(images, _tokenizer(), **_llava_features(config))


def _llava_next(config: Any) -> hf.ProcessorMixin:
    side, grids = config.vision_config.image_size, config.image_grid_pinpoints
    crop = {"height": side, "width": side}
    images = hf.LlavaNextImageProcessorPil(size={"shortest_edge": side}, crop_size=crop, image_grid_pinpoints=grids)
    return hf.LlavaNextProcessor(images, _tokenizer(), **_llava_features(config))


def _llava_features(config: Any) -> dict[str, Any]:
    return {
        "patch_size": config.vision_config.patch_size,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }


def _idefics2(config: Any) -> hf.ProcessorMixin:
    images = hf.Idefics2ImageProcessorPil(size={"shortest_edge": 378, "longest_edge": 980}, do_image_splitting=True)
    latents = config.perceiver_config.resampler_n_latents
    return hf.Idefics2Processor(images, _tokenizer(), image_seq_len=latents)


def _idefics3(config: Any) -> hf.ProcessorMixin:
    images = hf.Idefics3ImageProcessorPil(**_tiles(config))
    return hf.Idefics3Processor(images, _tokenizer(), image_seq_len=_shuffled(config))


def _smolvlm(config: Any) -> hf.ProcessorMixin:
    images = hf.SmolVLMImageProcessorPil(**_tiles(config))
    kind = without_video(hf.SmolVLMProcessor)
    return kind(images, _tokenizer(), None, image_seq_len=_shuffled(config))


def _tiles(config: Any) -> dict[str, Any]:
    """The longest edge becomes four tiles long."""
    side = config.vision_config.image_size
    return {"size": {"longest_edge": 4 * side}, "max_image_size": {"longest_edge": side}, "do_image_splitting": True}


def _shuffled(config: Any) -> int:
    return (config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor) ** 2


def _internvl(config: Any) -> hf.ProcessorMixin:
    height, width = config.vision_config.image_size
    size = {"height": height, "width": width}
    images = hf.GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, min_patches=1, max_patches=12)
    patches = math.prod(
        size // patch for size, patch in zip((height, width), config.vision_config.patch_size, strict=True)
    )
    kind = without_video(hf.InternVLProcessor)
    return kind(images, _tokenizer(), None, image_seq_length=int(patches * config.downsample_ratio**2))


def _mllama(config: Any) -> hf.ProcessorMixin:
    vision = config.vision_config
    size = {"height": vision.image_size, "width": vision.image_size}
    images = hf.MllamaImageProcessorPil(size=size, max_image_tiles=vision.max_num_tiles)
    return hf.MllamaProcessor(images, _tokenizer())


def _paligemma(config: Any) -> hf.ProcessorMixin:
    side, patch = config.vision_config.image_size, config.vision_config.patch_size
    images = hf.SiglipImageProcessorPil(size={"height": side, "width": side})
    images.image_seq_length = (side // patch) ** 2
    return hf.PaliGemmaProcessor(images, _tokenizer())


def _gemma3(config: Any) -> hf.ProcessorMixin:
    side = config.vision_config.image_size
    images = hf.Gemma3ImageProcessorPil(size={"height": side, "width": side})
    return hf.Gemma3Processor(images, _tokenizer(), image_seq_length=config.mm_tokens_per_image)


def _gemma4(config: Any) -> hf.ProcessorMixin:
    """Up to 280 tokens an image, of any shape."""
    vision = config.vision_config
    images = hf.Gemma4ImageProcessorPil(patch_size=vision.patch_size, pooling_kernel_size=vision.pooling_kernel_size)
    return without_video(hf.Gemma4Processor)(hf.Gemma4AudioFeatureExtractor(), images, _tokenizer(), None)


def _qwen2(config: Any) -> hf.ProcessorMixin:
    return _qwen(config, hf.Qwen2VLProcessor, smallest=56 * 56, largest=14 * 14 * 4 * 16384)


def _qwen3(config: Any) -> hf.ProcessorMixin:
    return _qwen(config, hf.Qwen3VLProcessor, smallest=2**16, largest=2**24)


def _qwen(config: Any, kind: type[hf.ProcessorMixin], *, smallest: int, largest: int) -> hf.ProcessorMixin:
    """The area of an image, in pixels, is kept within limits."""
    vision = config.vision_config
    images = hf.Qwen2VLImageProcessorPil(
        size={"shortest_edge": smallest, "longest_edge": largest},
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
    )
    return without_video(kind)(images, _tokenizer(), None)


PUBLISHED: dict[str, Callable[[Any], hf.ProcessorMixin]] = {
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "idefics2": _idefics2,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "llava": _llava,
    "llava_next": _llava_next,
    "mllama": _mllama,
    "paligemma": _paligemma,
    "qwen2_5_vl": _qwen2,
    "qwen2_vl": _qwen2,
    "qwen3_5": _qwen3,
    "qwen3_5_moe": _qwen3,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "smolvlm": _smolvlm,
}
"""By the `model_type` of config.json."""
