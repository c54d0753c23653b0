"""What tiny models of a family need that neither a config nor a class says, and how a class is asked for the rest.

`family_for("glm4v")`: an entry of `FAMILIES` where a type has one; else special tokens as its processor's code names
them. Types whose processor transformers does not bring, or only with torchvision, are for `stand_in.py`.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import transformers as hf
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from sightline.rehearsal.tiny_config import GRID

WRITTEN = re.compile(r"""["'](<[^<>"'\s{}]+>|\[[A-Z_]+\]|\|[A-Z]+\|)["']""")
"""A special token in a processor's code."""
ASKED = re.compile(r"""tokenizer\.(\w+_token)(?:_id)?\b|tokenizer, ["'](\w+_token)["']""")
"""A special token that a processor asks its tokenizer for."""
ALWAYS = {"pad_token", "eos_token", "bos_token", "unk_token", "sep_token", "cls_token"}


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the config and the classes of a family do not say.

    image: what stands for an image in a prompt; what the processor says where left out. tokens: further special tokens.
    named: special tokens by the tokenizer's attribute. words: special tokens by the config's key where it calls them
    otherwise than processor and tokenizer. config: values of the tiny config, by dotted key. images: the image
    processor's class where transformers' table has another. kind: the processor's class, likewise. processor: options
    of the processor. told_by_images: whether the processor learns from its image processor how many tokens an image
    takes. chat: whether there is a chat template. place: as `image`, beside tokens that are asked for. stand_in: which
    kind of input a stand-in makes for a type whose own processor cannot be made (see `stand_in.py`).
    """

    image: str = ""
    place: str = ""
    stand_in: Literal["", "own images", "tiles", "nested tiles", "square patches", "double patches", "flat patches"] = (
        ""
    )
    tokens: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    images: str | None = None
    kind: str | None = None
    processor: Mapping[str, Any] = field(default_factory=dict)
    told_by_images: bool = False
    chat: bool = True


def family_for(model_type: str) -> Family:
    """The entry of a type, or what its processor's code asks for."""
    known = FAMILIES.get(model_type, Family())
    if known.tokens or known.named or known.image:
        return known
    kind = processor_kind(model_type, known)
    if kind is None:
        return replace(known, named={"image_token": "<image>"})
    code = inspect.getsource(kind)
    asked = {first or second for first, second in ASKED.findall(code)} - ALWAYS
    named = {name: f"<|{name[:-6]}|>" for name in sorted(asked) if not name.startswith("add_")}
    return replace(known, tokens=tuple(dict.fromkeys(WRITTEN.findall(code))), named=named)


def processor_kind(model_type: str, family: Family) -> Any:
    """The class of a type's processor; None where transformers has none, or only with libraries that are missing."""
    name = family.kind or PROCESSOR_MAPPING_NAMES.get(model_type)
    kind = getattr(hf, str(name), None)
    return kind if isinstance(kind, type) and issubclass(kind, hf.ProcessorMixin) else None


_LLAVA = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
_QWEN = Family(image="<|vision_start|><|image_pad|><|vision_end|>", tokens=("<|video_pad|>",))
_QWEN_3 = Family(image=_QWEN.image, tokens=_QWEN.tokens, images="Qwen2VLImageProcessorPil",
                 config={"vision_config.deepstack_visual_indexes": [0, 1]})  # fmt: skip
_AXES = {"text_config.rope_parameters.mrope_section": [2, 3, 3]}
"""Frequencies of a head for time, height and width, where the config leaves them to the code."""
_AXES_OF_4 = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]}
_OMNI_PLACE = "<|vision_bos|><image>\n"
_OMNI = {"vision_start_token_id": "<|vision_bos|>"}
_MAP = {"<image>": 6}
"""The vocabulary of a type whose images become tokens of it, whose placeholder is the first special token here."""
_VQ = {"vq_config.channel_multiplier": [1, 1, 1, 1], "vq_config.base_channels": 32, "vq_config.num_res_blocks": 1}
_PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
_IDEFICS = {"fake_image_token": "<fake_token_around_image>", "end_of_utterance_token": "<end_of_utterance>"}

FAMILIES: dict[str, Family] = {
    "aria": Family(config={"projector_patch_to_query_dict": {GRID**2: 4}}, stand_in="tiles"),
    "aya_vision": Family(words={"image_token_index": "<|IMG_PATCH|>"}),
    "blip-2": Family(stand_in="tiles"),
    "chameleon": Family(
        stand_in="tiles",
        config={"vocabulary_map": _MAP | {f"IMGIMG{'ABCDEFGH'[n]}Z": 600 + n for n in range(8)}, "image_token_id": 6}
        | _VQ
        | {"vq_config.num_embeddings": 8, "vq_config.latent_channels": 16, "vq_config.embed_dim": 16},
    ),
    "cohere_compass": Family(
        named={"image_token": "<|IMAGE_PAD|>", "video_token": "<|VIDEO_PAD|>"},
        config={
            "text_config.rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]}
                for kind in ("full_attention", "sliding_attention")
            },
        },
    ),
    "ernie4_5_vl_moe": Family(config={"text_config.rope_parameters.mrope_section": [3, 3, 2]}),
    "deepseek_ocr2": Family(
        stand_in="tiles",
        config={
            "text_config.num_experts_per_tok": 2,
            "text_config.mlp_layer_types": ["dense", "sparse"],
            "vision_config.sam_config.downsample_channels": [16, 32],
            "vision_config.sam_config.output_channels": 16,
            "vision_config.encoder_config.hidden_size": 32,
        },
    ),
    "emu3": Family(
        stand_in="tiles",
        config={
            "vocabulary_map": _MAP | {"<|extra_200|>": 616} | {f"<|visual token {n:06d}|>": 600 + n for n in range(8)},
            "image_token_id": 6,
        }
        | _VQ
        | {"vq_config.codebook_size": 8, "vq_config.hidden_size": 32, "vq_config.attn_resolutions": []},
    ),
    "fast_vlm": Family(stand_in="tiles"),
    "gemma3n": Family(config={"vision_soft_tokens_per_image": GRID**2}),
    # the last two layers take keys and values of the first two, as those of E2B and E4B do
    "gemma4": Family(
        config={
            "vision_config.position_embedding_size": 256,
            "text_config.num_hidden_layers": 4,
            "text_config.layer_types": ["sliding_attention", "full_attention"] * 2,
            "text_config.num_kv_shared_layers": 2,
        }
    ),
    "gemma4_unified": Family(
        stand_in="flat patches",
        config={"vision_config.mm_embed_dim": 64, "vision_config.output_proj_dims": 64},
    ),
    "glm4v": Family(config=_AXES),
    "glm46v": Family(config=_AXES),
    "glm4v_moe": Family(
        config={"text_config.rope_parameters.mrope_section": [1, 1, 2]}, images="Glm4vImageProcessorPil"
    ),
    "glm_ocr": Family(config=_AXES, kind="Glm46VProcessor", images="Glm46VImageProcessorPil"),
    "glmga": Family(config=_AXES, kind="Glm46VProcessor"),
    "got_ocr2": Family(stand_in="tiles"),
    "granite4_vision": Family(
        stand_in="own images",
        config={
            "downsample_rate": "1/2",
            "deepstack_layer_map": [[0, 0]],
            "spatial_target_layers": [1, 2, 3, 4],
            "text_config.num_hidden_layers": 5,
            "vision_config.hidden_size": 64,
        },
    ),
    "hunyuan_vl": Family(
        config={"text_config.head_dim": 16, "text_config.rope_parameters": _AXES_OF_4},
        place="<|image_start|><|image|><|image_end|>",
    ),
    "kimi_k25": Family(stand_in="square patches", config={"text_config.head_dim": 8}),
    "lfm2_vl": Family(stand_in="flat patches"),
    "llama4": Family(config={"vision_config.intermediate_size": 128}),
    "llava_onevision": Family(processor={"num_image_tokens": GRID**2}),
    "mistral3": Family(config={"vision_config.image_size": 98}),
    "mistral_large4": Family(config={"vision_config.image_size": 98}),
    "molmo2": Family(
        config={"adapter_config.vision_feature_layer": [1, 0], "vision_config.num_position_embeddings": GRID**2},
        stand_in="flat patches",
    ),
    "minicpm_ocr": Family(images="MiniCPMV4_6ImageProcessorPil"),
    "minicpmv4_6": Family(config={"insert_layer_id": 0}),
    "minicpmv4_7": Family(config={"insert_layer_id": 0}),
    "muse_glimmer": Family(stand_in="double patches", config={"out_hidden_size": 128, "projector_hidden_size": 64}),
    "muse_spark": Family(stand_in="double patches", config={"out_hidden_size": 128, "projector_hidden_size": 64}),
    "ovis2": Family(words={"image_token_id": "<IMG_ATOM>"}),
    "paddleocr_vl": Family(config=_AXES),
    "perception_lm": Family(stand_in="nested tiles", config={"vision_config.model_args": {"embed_dim": 32}}),
    "pp_chart2table": Family(stand_in="tiles"),
    "qianfan_ocr": Family(place="<image>\n"),
    "qwen2_5_omni_thinker": Family(config=_AXES, tokens=("<|vision_bos|>",), place=_OMNI_PLACE, words=_OMNI),
    "qwen3_omni_moe_thinker": Family(tokens=("<|vision_bos|>",), place=_OMNI_PLACE, words=_OMNI),
    "qwen3_5_moe": _QWEN,
    "qwen4_exp": Family(
        image=_QWEN.image,
        tokens=_QWEN.tokens,
        images="Qwen2VLImageProcessorPil",
        config={
            f"text_config.indexer_{key}": value
            for key, value in {"n_heads": 2, "kv_heads": 1, "head_dim": 16, "budget": 8, "compress_ratio": 4}.items()
        },
    ),
    "unlimited_ocr": Family(
        stand_in="tiles",
        config={
            "vision_config.sam_config.downsample_channels": [16, 32],
            "vision_config.sam_config.output_channels": 16,
            "vision_config.encoder_config.hidden_size": 32,
        },
    ),
    "step3p7": Family(config={"text_config.sliding_window": 12}),
    "gemma3": Family(
        image="<start_of_image>",
        named={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
    ),
    "idefics2": Family(image="<image>", tokens=tuple(_IDEFICS.values())),
    "idefics3": Family(
        image="<image>", tokens=(*_IDEFICS.values(), "<global-img>", *_PLACES), config={"scale_factor": 2}
    ),
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
    "paligemma": Family(image="<image>", told_by_images=True, chat=False),
    "qwen2_5_vl": _QWEN,
    "qwen2_vl": _QWEN,
    "qwen3_5": _QWEN,
    "qwen3_vl": _QWEN_3,
    "qwen3_vl_moe": _QWEN_3,
    "smolvlm": Family(
        image="<image>",
        tokens=_PLACES,
        named={**_IDEFICS, "image_token": "<image>", "global_image_token": "<global-img>"},
        config={"scale_factor": 2},
    ),
}
"""By `model_type`."""
