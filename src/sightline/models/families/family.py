"""What a model needs to be run on a grid of tokens, and what is the same for most: positions, masks, image inputs.

`Family` is the ordinary case: a vision tower, a projector, and a causal language model that finds its images by
placeholder tokens (LLaVA, LLaVA-NeXT, Idefics2, Idefics3, SmolVLM, InternVL). Others override what differs.
Model-specific names (`pixel_values` and the like) appear here, in the other family files and in `data` only.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from functools import cache, cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sightline.attention import attention, flex
from sightline.attention.choice import Choice, choose
from sightline.attention.spans import spans_of
from sightline.errors import ModelError, shown
from sightline.layout import visible
from sightline.layout.grid import stack_left, stack_rows
from sightline.models.unwrap import forward_classes
from sightline.transfer import move_together
from sightline.types import Batch, Group

DEEPSTACK = "deepstack_features"
"""Where a tower puts features of several of its layers, which are added to as many layers of the language model."""
CAP = "final_logit_softcapping"
NO_CAP = 1e30
"""A cap that changes nothing: x / 1e30 is its own tanh."""
SCALES = re.compile(
    r"(?P<sign>[*/]) self\.(?:config\.)?(?:text_config\.)?(?P<name>logits_scaling|logit_scale|output_multiplier)\b"
)
"""Where a model's forward scales its logits."""
Pieces = dict[str, Tensor]
"""What the tower made of one group's images: tensors by name, tokens or images along the first axis."""


@contextmanager
def fitting_images() -> Iterator[None]:
    """Around a forward: raises `ModelError` where images have another size, or other places, than the model takes."""
    try:
        yield
    except ValueError as error:
        if not re.search(r"(do not|doesn't|does not) match", str(error)) or isinstance(error, ModelError):
            raise
        raise ModelError(
            f"Processor and model do not match: {shown(error, 200)}. Load the processor from the model's own folder, "
            "or correct `model.processor`."
        ) from error


CHECK = "torch_compilable_check"
"""What a model's file calls, by transformers' name for it, to compare numbers of image tokens and features."""


@contextmanager
def features_counted(model: PreTrainedModel) -> Iterator[None]:
    """Around a forward on features whose number `Family.split` has compared with the prompts' placeholders.

    On a device other than the CPU the model's own comparison is left out: the host would wait for it.
    """
    module: Any = sys.modules[forward_classes(type(model))[0].__module__]
    if model.device.type == "cpu" or not hasattr(module, CHECK):
        yield
        return
    usual = getattr(module, CHECK)
    setattr(module, CHECK, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(module, CHECK, usual)


class Family:
    """A model and how it wants its inputs. Made by `families.family_of`."""

    layout: Literal["prefix", "padded"] = "prefix"
    why_padded: str = "layers that take no mask of ours"
    """What a padded family has that is not exact with a shared prefix, for messages."""
    is_known: bool = True
    """Whether its type is in the table of families; one that is not is tried on a real group first."""
    decodes: bool = True
    """Whether positions of later tokens and the past that they see are known here, so that `generation.decoder` can
    write answers; a model of which they are not is left to transformers' own `generate`."""
    prompt_is_causal: bool = True
    features_as_list: bool = True
    """Whether the model takes features as a list of tensors or as one; seen from what its tower returns."""
    features_kind: type[Any] = BaseModelOutputWithPooling
    """What holds the features when the model takes them; seen from what its tower returns."""
    layers: ClassVar[frozenset[str]] = frozenset({"full_attention", "sliding_attention"})
    """Kinds of layer (`layer_types` of config.json) that are exact with a shared prefix: those that take our mask."""
    forks_states: ClassVar[bool] = False
    """Whether layers with a state (linear attention) fork that of a prompt to its responses."""
    extra_embeddings: ClassVar[int] = 0
    """Embeddings beyond the vocabulary of config.json."""
    features_are_embeddings: bool = False
    """Whether features come out of the language model's own embeddings: those of tokens that images became."""
    features_take_tower_dtype: bool = False
    """Whether the model casts features to its tower's dtype instead of the language model's (then both are one)."""
    along_tokens: ClassVar[dict[str, int]] = {"mm_token_type_ids": 0, "token_type_ids": 0, "moe_mm_token_type_ids": 0}
    """Inputs [1, P] that run along the prompt, and what continues them after a response."""
    along_images: ClassVar[tuple[str, ...]] = ("image_grid_thw", "images_per_sample")
    """Inputs that the language model reads besides the features, to count positions (grids of images)."""
    continues: ClassVar[tuple[str, ...]] = ()
    """Inputs [1, P, …] whose last entry goes for all text after the prompt."""
    on_host: ClassVar[frozenset[str]] = frozenset()
    """Inputs of the tower that it reads in Python, and that stay on the host."""
    renamed: ClassVar[dict[str, str]] = {"pixel_values_images": "pixel_values", "image_patches": "pixel_values"}
    """Inputs that a processor calls otherwise than the model does."""
    projector_names: tuple[str, ...] = ("merger", "deepstack_merger_list")
    """Parts of the vision tower that count as projector."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.config = model.config
        self.text_config = model.config.get_text_config()

    @property
    def name(self) -> str:
        """The model's type, as its config.json names it."""
        return self.config.model_type

    @property
    def image_token_ids(self) -> tuple[int, ...]:
        """Ids that stand for images (and videos): banned in generation, never embedded inside a response."""
        names = ("image_token_id", "image_token_index", "video_token_id")
        ids = {getattr(self.config, name) for name in names if getattr(self.config, name, None) is not None}
        return tuple(sorted(ids))

    @property
    def softcap(self) -> float | None:
        """Cap that the model's own forward applies after its head."""
        return getattr(self.text_config, CAP, None) if CAP in written_in(type(self.model)) else None

    @property
    def logit_scale(self) -> float:
        """What the model's own forward multiplies the head's output with, before its cap (Cohere, Granite)."""
        found = SCALES.search(written_in(type(self.model)))
        if found is None:
            return 1.0
        value = getattr(self.text_config, found["name"], None) or 1.0
        return value if found["sign"] == "*" else 1.0 / value

    @contextmanager
    def uncapped(self) -> Iterator[None]:
        """Within, the model's forward does not cap what its head returns; it still scales."""
        holder: Any = self.model if hasattr(self.model, CAP) else self.text_config
        cap = getattr(holder, CAP, None)
        if cap is None or self.softcap is None:
            yield
            return
        # some divide by it without asking whether there is one, and some configs take no None
        code = written_in(type(self.model))
        asks = f"{CAP} is not None" in code or f"{CAP}) is not None" in code
        declared = {field.name: field.type for field in fields(self.text_config)}
        asks = asks and declared.get(CAP) is not float
        setattr(holder, CAP, None if asks else NO_CAP)
        try:
            yield
        finally:
            setattr(holder, CAP, cap)

    @property
    def never_predicted(self) -> Int[Tensor, " ids"] | None:
        """Ids whose logits the model's own forward puts at the lowest number there is; None for no such."""
        return None

    @property
    def window(self) -> int | None:
        """How many tokens a sliding layer looks back, itself included; None where the config names no window."""
        return getattr(self.text_config, "sliding_window", None)

    @property
    def router_coefficient(self) -> float:
        """What the load-balancing loss of a mixture of experts is multiplied by; 0 for a model without."""
        if not hasattr(self.text_config, "output_router_logits") or "aux_loss" not in written_in(type(self.model)):
            return 0.0
        return getattr(self.text_config, "router_aux_loss_coef", 0.0)

    # the parts of the model

    @cached_property
    def language_name(self) -> str:
        return _name_of(self.model, self.model.get_decoder())

    @cached_property
    def vision_name(self) -> str:
        return _name_of(self.model, self.model.get_encoder("image"))

    @cached_property
    def head_name(self) -> str:
        head = self.model.get_output_embeddings()
        assert head is not None
        return _name_of(self.model, head)

    def part_of(self, parameter_name: str) -> Literal["language", "vision", "projector", "head"]:
        """Which part of the model a parameter belongs to, from its name in the bare model."""
        if parameter_name.startswith(self.head_name + "."):  # which some language models hold
            return "head"
        found = [name for name in (self.language_name, self.vision_name) if parameter_name.startswith(f"{name}.")]
        # where one part holds the other, the inner one
        inner = max(found, key=len, default=None)
        if inner == self.language_name:
            return "language"
        if inner == self.vision_name:
            return "projector" if any(f".{name}." in parameter_name for name in self.projector_names) else "vision"
        return "projector"

    # groups

    def place(self, group: Group) -> Group:
        """Give the prompt its positions, the position where responses start, and its two-way blocks."""
        length = len(group.prompt_ids)
        positions = self.positions(group)
        return replace(
            group,
            positions=positions,
            next_position=int(positions.max()) + 1,
            block=torch.full((length,), -1),
            fed_whole=self.router_coefficient != 0,
        )

    def positions(self, group: Group) -> Int[Tensor, "*axes prompt"]:
        """Of the prompt's tokens, one after another; on several axes (time, height, width) where the model has such,
        which it is asked for."""
        asked = getattr(getattr(self.model, "model", None), "get_rope_index", None)
        if asked is None:
            return torch.arange(len(group.prompt_ids))
        ids = group.prompt_ids[None]
        kinds = torch.isin(ids, torch.tensor(self.image_token_ids)).int()
        known = {"mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids), **self.inputs_of(group)}
        taken = inspect.signature(asked).parameters
        found, _ = asked(ids, **{name: value for name, value in known.items() if name in taken})
        return found[:, 0]

    def num_placeholders(self, group: Group) -> int:
        """Tokens of the prompt that stand for images."""
        return int(torch.isin(group.prompt_ids, torch.tensor(self.image_token_ids)).sum())

    def has_images(self, group: Group) -> bool:
        return "pixel_values" in self.inputs_of(group)

    def inputs_of(self, group: Group) -> dict[str, Any]:
        """What the processor made of a prompt besides ids, by the names that the model reads."""
        inputs = {self.renamed.get(name, name): value for name, value in group.model_inputs.items()}
        told = any(name in inputs for name in self.along_images)
        if self._counts_by_kind and told and "mm_token_type_ids" not in inputs:
            kinds = torch.isin(group.prompt_ids[None], torch.tensor(self.image_token_ids))
            inputs["mm_token_type_ids"] = kinds.long()
        if self._counts_images:
            inputs["images_per_sample"] = torch.tensor([len(inputs.get("image_grid_thw", ()))])
        return inputs

    @cached_property
    def _counts_images(self) -> bool:
        """Whether the model wants to be told how many images each row has."""
        asked = getattr(getattr(self.model, "model", None), "get_rope_index", None)
        return asked is not None and "images_per_sample" in inspect.signature(asked).parameters

    @cached_property
    def _counts_by_kind(self) -> bool:
        """Whether positions are counted from which tokens stand for images, which not every processor says."""
        asked = getattr(getattr(self.model, "model", None), "get_rope_index", None)
        return asked is not None and "mm_token_type_ids" in inspect.signature(self.model.forward).parameters

    def num_pixels(self, group: Group) -> int:
        """Pixel values of the prompt's images, which the tower's work grows with; 0 without images."""
        return self.inputs_of(group)["pixel_values"].numel() if self.has_images(group) else 0

    # images

    @property
    def tower(self) -> Any:
        """The part of the model that makes features of images."""
        inner = getattr(self.model, "model", self.model)
        return inner if hasattr(inner, "get_image_features") else self.model

    @property
    def tower_inputs(self) -> tuple[str, ...]:
        """Names of what the vision tower reads."""
        return tuple(inspect.signature(self.tower.get_image_features).parameters)

    @property
    def can_share_features(self) -> bool:
        """Whether the model takes features that were computed before."""
        return "mm_encoder_outputs" in inspect.signature(self.model.forward).parameters

    def concatenate(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The image inputs of several prompts, one after another along the first axis.

        Where the other axes differ (images a prompt, tiles an image, height, width) the smaller is filled with
        zeros, which is how every processor here marks what is not there.
        """
        names = {name: None for one in inputs for name in one if name not in self.along_tokens}
        return {name: _concatenate([one[name] for one in inputs if name in one]) for name in names}

    def encode(self, groups: list[Group]) -> list[Pieces]:
        """One pass of tower and projector over groups that have images; what it made, by group."""
        device = self.model.device
        inputs = self.concatenate([self.inputs_of(group) for group in groups])
        read = {name: inputs[name] for name in self.tower_inputs if name in inputs}
        read |= _moved({name: value for name, value in read.items() if name not in self.on_host}, device)
        with fitting_images():
            found = self.tower.get_image_features(**read, return_dict=True)
        return self.split(found, groups)

    def split(self, output: Any, groups: list[Group]) -> list[Pieces]:
        """The tower's output by group: as many feature tokens as the prompt has placeholders."""
        flat = flatten(output.pooler_output)
        self.features_as_list = not isinstance(output.pooler_output, Tensor)
        self.features_kind = type(output)
        counts = [self.num_placeholders(group) for group in groups]
        if sum(counts) != len(flat):
            raise ModelError(
                f"The vision tower made {len(flat)} feature tokens for prompts that hold {sum(counts)} image "
                f"placeholders ({', '.join(group.id for group in groups[:3])}…). Processor and model do not match: "
                "load the processor from the model's own folder, or correct `model.processor`."
            )
        pieces = [{"pooled": piece} for piece in flat.split(counts)]
        for layer, features in enumerate(getattr(output, DEEPSTACK, None) or ()):
            for piece, part in zip(pieces, flatten(features).split(counts), strict=True):
                piece[f"deepstack {layer}"] = part
        return pieces

    def join(self, pieces: list[Pieces | None], batch: Batch | None) -> dict[str, Any]:
        """The model's keyword arguments for the features of the prompts in a grid, in the order of `layout.order`.

        batch: the grid; None where every prompt has a row of its own.
        """
        present = [piece for piece in pieces if piece is not None]
        if not present:
            return {}
        pooled = [piece["pooled"] for piece in present]
        # [tokens, 1, hidden]: where a tensor is wanted it has three axes, and Idefics3 before 5.20 reads all of them
        features: dict[str, Any] = {"pooler_output": pooled if self.features_as_list else torch.cat(pooled)[:, None]}
        if layers := [name for name in present[0] if name.startswith("deepstack ")]:
            features[DEEPSTACK] = [[piece[layer] for piece in present] for layer in layers]
        return {"mm_encoder_outputs": {"image": self.features_kind(**features)}}

    def pixels(self, groups: list[Group], batch: Batch) -> dict[str, Any]:
        """The model's keyword arguments for the pixels of the prompts in a grid, in the order of `layout.order`."""
        present = [self.inputs_of(group) for group in groups if self.has_images(group)]
        inputs = self.concatenate(present) if present else {}
        return _moved(inputs, self.model.device)

    def calling(self, batch: Batch, groups: list[Group]) -> AbstractContextManager:
        """What must be in force while the model is called on the prompts in a grid; nothing, for most."""
        return nullcontext()

    # generation

    def new_cache(self) -> Cache:
        """An empty past."""
        return DynamicCache(config=self.text_config)

    def fork(self, cache: Cache, rows: Int[Tensor, " rows"]) -> None:
        """Let the past of these rows be continued; one may come several times, and others not at all.

        All that transformers' own caches hold: keys and values, and the states of linear attention and convolutions.
        A family that keeps more extends this.
        """
        cache.reorder_cache(rows)  # pyright: ignore[reportArgumentType]

    def prompt_inputs(self, groups: Sequence[Group], pieces: Sequence[Pieces | None] | None) -> dict[str, Any]:
        """All but ids, mask and positions that the model wants of prompts in rows of their own, filled on the left.

        pieces: the features of their images, if encoded before; those are then not sent again.
        """
        encoded = set() if pieces is None else {*self.tower_inputs} - {*self.along_images}
        given = [self.inputs_of(group) for group in groups]
        inputs = self.concatenate([{n: v for n, v in one.items() if n not in encoded} for one in given])
        for name in self.along_tokens:
            if any(name in one for one in given):
                rows = [
                    one[name][0] if name in one else group.prompt_ids * 0
                    for one, group in zip(given, groups, strict=True)
                ]
                inputs[name] = stack_left(rows, 0)
        inputs = _moved(inputs, self.model.device)
        return inputs if pieces is None else {**inputs, **self.join([*pieces], None)}

    # grids

    def embedded_ids(self, batch: Batch) -> Int[Tensor, "rows length"]:
        """Ids to embed: a placeholder inside a response is an ordinary token, not a place for features."""
        ids = batch.input_ids
        for image in self.image_token_ids:
            ids = ids.masked_fill((batch.input_ids == image) & (batch.segment != 0), self._plain_id)
        return ids.masked_fill(batch.segment < 0, self._filling_id)

    @property
    def _filling_id(self) -> int:
        """Of padding: not the padding token, whose embedding may be zero, where a norm has no gradient."""
        ends = getattr(self.text_config, "eos_token_id", None)
        ends = ends if isinstance(ends, list) else [ends]
        padding = getattr(self.text_config, "pad_token_id", None)
        return next(
            (i for i in ends if i is not None and i != padding and i not in self.image_token_ids), self._plain_id
        )

    @property
    def _plain_id(self) -> int:
        candidates = (*(getattr(self.text_config, name, None) for name in ("pad_token_id", "eos_token_id")), 0)
        return next(c for c in candidates if isinstance(c, int) and c not in self.image_token_ids and c >= 0)

    def grid_inputs(self, batch: Batch, groups: list[Group]) -> dict[str, Any]:
        """Everything but ids and images: for the prefix layout our mask and positions, for the padded one a
        two-dimensional mask and the processor's inputs along tokens, continued after each response.

        groups: of the prompts in the grid, in the order of `layout.order`.
        """
        if batch.position_ids is not None:
            if self.layout == "padded":
                raise ModelError(
                    f"Models of type {self.name!r} are not exact in the prefix layout (layers that know no mask, or "
                    "positions not known here). Set `layout: auto` or `layout: padded`."
                )
            return {"attention_mask": self.masks(batch), "position_ids": batch.position_ids}
        inputs = [self.inputs_of(group) for group in groups]
        read = {"attention_mask": (batch.segment >= 0).long()}
        for name, fill in self.along_tokens.items():
            if any(name in one for one in inputs):
                read[name] = _continue(inputs, name, batch, fill)
        for name in self.along_images:
            present = [one[name] for one in inputs if name in one]
            if present:
                read[name] = torch.cat(present).to(batch.input_ids.device)
        return read

    def masks(self, batch: Batch) -> Any:
        """The visibility of a grid in the form that the model's attention takes.

        One tensor [rows, 1, length, length], or one for each kind of layer where only some have a sliding window. A
        window that is no shorter than any prompt with its response is none.
        """
        window = self.window
        kinds = set(getattr(self.text_config, "layer_types", None) or ()) & Family.layers
        reaches = window is None or int(batch.on_host.rank.max()) < window
        if reaches or (kinds and "sliding_attention" not in kinds):
            return self._mask(batch, None)
        if not kinds:
            return self._mask(batch, window)
        return {kind: self._mask(batch, window if kind == "sliding_attention" else None) for kind in kinds}

    def plan(self, batch: Batch) -> attention.Plan | None:
        """The plan of a kernel without a mask, for layers without a window; None where this grid or this model needs
        a dense mask."""
        device = batch.input_ids.device
        kernel = self.kernel(device).kernel
        if kernel is None:
            return None
        # routers of the last layer read every token
        last_layer = None if self.router_coefficient else self.text_config.num_hidden_layers - 1
        spans = spans_of(batch.on_host, last_layer)
        return attention.plan_with(kernel, spans, device) if attention.is_worthwhile(spans, device) else None

    def kernel(self, device: torch.device) -> Choice:
        """Which attention kernel serves shared prefixes on this device, as the model is now; grids aside."""
        config = self.text_config
        if config._attn_implementation != attention.NAME:
            return Choice(kernel=None, why=f"the model's attention is {config._attn_implementation}")
        if getattr(config, "v_head_dim", None) is not None:
            return Choice(kernel=None, why="values have heads of another size than queries")
        if self.model.training and getattr(config, "attention_dropout", 0.0) > 0:
            return Choice(kernel=None, why="attention drops out in training (`attention_dropout` of config.json)")
        dtype = next(w.dtype for w in self.model.get_decoder().parameters() if w.is_floating_point())
        if torch.is_autocast_enabled(device.type) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(device.type)
        found = [choose(device, dtype, size) for size in head_sizes(config)]
        return next((one for one in found if one.kernel is None), found[0])

    def _mask(self, batch: Batch, window: int | None, *, whole_blocks: bool = False) -> Any:
        plan = self.plan(batch) if window is None else None
        if plan is not None:
            return attention.mask_with(plan, batch.input_ids.device)
        if self.text_config._attn_implementation in flex.NAMES:
            return flex.block_mask(batch, window, whole_blocks=whole_blocks)
        return self.mask_of(visible(batch, window, whole_blocks=whole_blocks)[:, None])

    def mask_of(self, seen: Tensor) -> Tensor:
        """What may be seen, [rows, 1, queries, keys], in the form that the attention implementation takes."""
        if self.text_config._attn_implementation in ("sdpa", attention.NAME):
            return seen
        # eager adds the mask to the scores: a mask of booleans is silently wrong there
        dtype = next(self.model.get_decoder().parameters()).dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)


def head_sizes(config: Any) -> tuple[int, ...]:
    """Sizes of the heads of a language model's layers, from its config."""
    # where layers differ, transformers lets each be asked only
    several = getattr(config, "is_heterogeneous", False)
    layers = [config.per_layer_config[i] for i in range(config.num_hidden_layers)] if several else [config]
    names = ("head_dim", "global_head_dim")
    found = (getattr(layer, name, None) for layer in layers for name in names)
    named = {size for size in found if size is not None}
    return tuple(sorted(named)) or (config.hidden_size // config.num_attention_heads,)


@cache
def written_in(kind: type) -> str:
    """The source of the classes that a model's forward is written in: what becomes of the head's output."""
    return "\n".join(map(inspect.getsource, forward_classes(kind)))


def _name_of(model: nn.Module, part: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is part)


def flatten(features: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Features of several images, each [..., hidden], as [tokens, hidden]."""
    return torch.cat([piece.flatten(0, -2) for piece in features])


def _moved(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The inputs with their tensors on `device`, in one copy."""
    names = [name for name, value in inputs.items() if isinstance(value, Tensor)]
    return inputs | dict(zip(names, move_together([inputs[name] for name in names], device), strict=True))


def _concatenate(values: list[Any]) -> Any:
    if not isinstance(values[0], Tensor):
        return [item for value in values for item in value]
    widest = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    return torch.cat([_fill(value, widest) for value in values])


def _fill(value: Tensor, sizes: list[int]) -> Tensor:
    """Zeros at the end of every axis but the first, up to `sizes`."""
    missing = [size - have for size, have in zip(sizes, value.shape[1:], strict=True)]
    if not any(missing):
        return value
    return nn.functional.pad(value, [amount for m in reversed(missing) for amount in (0, m)])


def _continue(inputs: list[dict[str, Any]], name: str, batch: Batch, fill: int) -> Int[Tensor, "rows length"]:
    rows = []
    for r, one in enumerate(inputs):
        prompt_length = int((batch.segment[r] == 0).sum())
        value = one.get(name, torch.zeros(1, prompt_length, dtype=torch.long))[0]
        rows.append(torch.cat([value, value.new_full((batch.input_ids.shape[1] - prompt_length,), fill)]))
    return stack_rows(rows, fill).to(batch.input_ids.device)
