"""The config of a real model → that of a tiny one of the same kind: a few narrow layers, one of each sort.

Keys are known by their names, which transformers' configs share: whatever is called `…_heads` is a number of heads.
Widths that must agree across parts (a projector's output, the language model's input) agree in the real config, so the
same number becomes the same tiny number. All else (activations, windows, capped logits) stays as it is. Left out: what
only one family has; see `tiny_families.py`.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from transformers import AutoConfig, PretrainedConfig

SHARED_KEYS = "num_kv_shared_layers"
"""How many of the last layers take keys and values of the ones before (Gemma 3n and 4)."""
TEXT_WIDTH, VISION_WIDTH, LAYERS, EXPERTS = 64, 32, 2, 4
"""LAYERS: where all are of one sort."""
GRID, POSITIONS, PATCH = 4, 64, 14
"""Patches along a side of an image; places of patches that are learned; pixels along a patch's side, where not said."""

Tree = dict[str, Any]

NOT_SHAPE = ("quantization_config", "auto_map", "architectures", "dtype", "torch_dtype", "transformers_version")
BY_LAYER = "per_layer_config"
"""A part of its own for layers that differ from the rest, by their number."""
LAYER_NUMBERS = re.compile(r"(layers|indexes|indices|idxs|layer_ids)$")
HIDDEN = ("embed_dim", "hidden_size", "d_model", "n_embd")
DEPTH = ("num_hidden_layers", "depth", "num_layers", "n_layers", "encoder_layers", "layers")
HEADS = ("num_attention_heads", "num_heads", "attention_heads", "encoder_attention_heads")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A language model, vision tower, resampler: its real values, and the tiny sizes.

    layers: the real layers that are kept. widths: of all parts, real → tiny.
    """

    real: Tree
    width: int
    head_size: int
    layers: tuple[int, ...]
    widths: Mapping[int, int]
    vocabulary: int

    @property
    def heads(self) -> int:
        return self.width // self.head_size

    @property
    def patch(self) -> int:
        """Pixels along a patch's side."""
        patch = self.real.get("patch_size") or PATCH
        return patch[0] if isinstance(patch, list) else patch


def shrink_config(
    config: PretrainedConfig, vocabulary: int, changes: Mapping[str, Any] | None = None, *, head_size: int = 16
) -> PretrainedConfig:
    """The tiny config. changes: values that decide, by dotted key (`vision_config.window_size`)."""
    tree = deepcopy(config.to_dict())
    text = config.get_text_config()
    wide = _first(text.to_dict(), HIDDEN)
    text_path = next((name for name in config.sub_configs if getattr(config, name, None) is text), "")
    reals = {path: dict(node) for path, node in nodes(tree)}
    tiny = {path: TEXT_WIDTH if path in ("", text_path) or _first(node, HIDDEN) == wide else VISION_WIDTH
            for path, node in reals.items()}  # fmt: skip
    widths = {_first(node, HIDDEN) or 0: tiny[path] for path, node in reversed(reals.items())}
    for path, node in nodes(tree):
        part = Part(real=reals[path], width=tiny[path], head_size=min(head_size, tiny[path] // 2),
                    layers=_kept(reals[path]), widths=widths, vocabulary=vocabulary)  # fmt: skip
        for key, value in part.real.items():
            if key in NOT_SHAPE:
                del node[key]
            elif key == BY_LAYER and value:
                node[key] = {new: node[key][old] for new, old in enumerate(part.layers) if old in value}
            elif key.startswith("rope_") and isinstance(value, dict):
                node[key] = _rope(value, part)
            elif not isinstance(value, dict):
                node[key] = _tiny(key, value, part)
    for key, value in (changes or {}).items():
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return AutoConfig.for_model(tree.pop("model_type"), **tree)


def nodes(tree: Tree, path: str = "") -> Iterator[tuple[str, Tree]]:
    """A config's parts by their dotted place, itself first."""
    yield path, tree
    for key, value in list(tree.items()):
        if isinstance(value, dict) and (isinstance(key, int) or key.endswith("config") or "model_type" in value):
            yield from nodes(value, f"{path}.{key}" if path else str(key))


def patch_and_size(config: PretrainedConfig) -> tuple[int, int]:
    """Pixels of a patch and of an image, a side each; of the default part's size where no part says."""
    parts = [node for _, node in nodes(getattr(config, "vision_config", config).to_dict())]
    patch = next((node["patch_size"] for node in parts if node.get("patch_size")), PATCH)
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    return patch, GRID * patch


def _first(node: Tree, names: tuple[str, ...]) -> int | None:
    return next((node[name] for name in names if isinstance(node.get(name), int)), None)


def _kept(real: Tree) -> tuple[int, ...]:
    """Which layers a tiny model keeps, in their order: the first of each sort."""
    depth = _first(real, DEPTH) or LAYERS
    lists = [(_is_layer_numbers(key, value), value) for key, value in real.items() if isinstance(value, list)]
    sorts: dict[str, int] = {}
    for layer in range(depth):
        sort = [
            layer in value if numbers else value[layer] for numbers, value in lists if numbers or len(value) == depth
        ]
        sort += [layer < (real.get("first_k_dense_replace") or 0), (real.get(BY_LAYER) or {}).get(layer)]
        sort.append(layer >= depth - (real.get(SHARED_KEYS) or 0))
        sorts.setdefault(str(sort), layer)
    others = [layer for layer in range(depth) if layer not in sorts.values()]
    return tuple(sorted([*sorts.values(), *others[: max(0, LAYERS - len(sorts))]]))


def _is_layer_numbers(key: str, value: Any) -> bool:
    if not isinstance(value, list) or LAYER_NUMBERS.search(key) is None:
        return False
    return all(isinstance(one, int) and one >= 0 for one in value) and all(a < b for a, b in pairwise(value))


def _tiny(key: str, value: Any, part: Part) -> Any:
    """One value of the tiny config."""
    if isinstance(value, list):
        if _is_layer_numbers(key, value):
            return [new for new, old in enumerate(part.layers) if old in value]
        if len(value) == _first(part.real, DEPTH):
            return [value[layer] for layer in part.layers]
        return [_tiny(key, one, part) for one in value]
    if isinstance(value, bool) or not isinstance(value, int) or value == 0:
        return value
    if key == SHARED_KEYS:
        return sum(layer >= (_first(part.real, DEPTH) or 0) - value for layer in part.layers)
    return next((rule(value, part) for pattern, rule in RULES if pattern.search(key)), value)


def _width(value: int, part: Part) -> int:
    """The tiny width of the part that has the real one, or as many times that."""
    if value == _first(part.real, HIDDEN):
        return part.width
    same = (times * tiny for times in range(1, 9) for real, tiny in part.widths.items() if value == times * real)
    return next(same, min(value, TEXT_WIDTH))


def _key_heads(value: int, part: Part) -> int:
    """As many as there are heads, a single one, or half as many, as in the real model."""
    return part.heads if value == _first(part.real, HEADS) else 1 if value == 1 else part.heads // 2


def _feature_layer(value: int, part: Part) -> int:
    """A layer of the vision tower whose output is read: one that there is."""
    return max(-LAYERS, min(value, LAYERS))


RULES = [
    (re.compile(pattern), rule)
    for pattern, rule in {
        r"_token_(id|index)$": lambda value, part: min(value, part.vocabulary - 1),
        r"vocab_size": lambda value, part: part.vocabulary,
        r"(vision_feature|vit)_layers?$": _feature_layer,
        r"num_global_layers|resampler_depth|first_k_dense_replace|n_group$|topk_group|shared_experts$": (
            lambda value, part: 1
        ),
        r"^((num|n|encoder|decoder)_)*(hidden_|decoder_)?layers$|^depth$": lambda value, part: len(part.layers),
        r"(key_value|kv|key)_heads$": _key_heads,
        r"heads$": lambda value, part: part.heads,
        r"qk_head_dim": lambda value, part: part.head_size * 3 // 2,
        r"qk_rope_head_dim": lambda value, part: part.head_size // 2,
        r"head_dim$|^d_kv$|dim_head$|query_pre_attn_scalar": lambda value, part: part.head_size,
        r"(expert|moe).*(intermediate_size|_dim)$": lambda value, part: part.width,
        r"intermediate_size|ffn_dim|d_ff$|mlp_dim|ffn_hidden": lambda value, part: 2 * part.width,
        r"(per_tok|moe_topk|moe_k|^top_k)$": lambda value, part: min(value, 2),
        r"experts$": lambda value, part: EXPERTS,
        r"_rank$": lambda value, part: 16,
        r"(image|img)_size$": lambda value, part: GRID * part.patch,
        r"window_size$": lambda value, part: min(value, GRID * part.patch),
        r"num_position_embeddings|position_embedding_size": lambda value, part: min(value, POSITIONS),
        r"max_position_embeddings": lambda value, part: min(value, 4096),
        r"num_patches": lambda value, part: GRID**2,
        r"_latents|mm_tokens_per_image|latent_query_num|num_query_tokens": lambda value, part: min(value, 4),
        r"size_per_layer_input$": lambda value, part: min(value, part.width // 4),
        r"^(out_hidden_size|text_hidden_size)$": lambda value, part: TEXT_WIDTH,
        r"(patch|merge|kernel|stride|chunk|pool).*_size$|_token": lambda value, part: value,
        rf"(_dim|_size|_width|_hidden)$|^({'|'.join(HIDDEN)})$": _width,
    }.items()
]
"""A whole number's key → its tiny value; the first that fits decides, and what none fits stays."""


def _rope(rope: Tree, part: Part) -> Tree:
    """Positions: sections and factors by frequency are cut to a head's size."""
    rope = {kind: _rope(value, part) if isinstance(value, dict) else value for kind, value in rope.items()}
    if sections := rope.get("mrope_section"):
        rope["partial_rotary_factor"] = max(rope.get("partial_rotary_factor") or 1.0, 0.5)
        half = int(part.head_size * rope["partial_rotary_factor"]) // 2
        small = [max(1, half * one // sum(sections)) for one in sections]
        rope["mrope_section"] = [half - sum(small[1:]), *small[1:]]
    for key in ("long_factor", "short_factor"):
        if isinstance(rope.get(key), list):
            rope[key] = rope[key][: part.head_size // 2]
    return rope
