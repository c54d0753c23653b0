"""Is a type exact? Its tiny model in both layouts, against ordinary calls of the same model: `prove("glm4v")`.

Values (float32, 1e-5 nats) and gradients (1e-3 relative) of ragged groups: one to three responses, one image, two and
none; features encoded once, and pixels through a trained tower; attention with our kernel and with sdpa. Then the model
is saved and loaded, samples K completions whose log-probs are compared with its own, and LoRA looks for its layers.
Window and chunk sizes are cut so that they bite. Left out: speed, and what weights a published model has.
"""

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers as hf
from PIL import Image
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils.import_utils import is_timm_available

from sightline.attention import attention
from sightline.config import LoraConfig, ModelConfig
from sightline.errors import ModelError
from sightline.forward import plain
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.generation.generate import sample
from sightline.generation.sampling import SamplingSettings
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.families.refused import refusal
from sightline.models.load import load_model, read_config, unfreeze
from sightline.models.lora import add_lora
from sightline.rehearsal.timm_tower import TimmTower, stand_in_for_timm
from sightline.rehearsal.tiny_config import nodes
from sightline.rehearsal.tiny_families import family_for
from sightline.rehearsal.tiny_models import build, build_with_stand_in, real_config
from sightline.rehearsal.unreached import UNREACHED
from sightline.types import Batch, Group, LogProbs

LOGP, GRADIENT, SAMPLED = 1e-5, 1e-3, 1e-4
"""Largest absolute differences of log-probs in nats, relative difference of a weight's gradient, log-prob sampled."""
BITES = {
    "sliding_window": 12,
    "attention_chunk_size": 12,
    "floor_scale": 12,
    "final_logit_softcapping": 3.0,
    "logits_scaling": 2.0,
    "logit_scale": 0.25,
    "output_multiplier": 0.5,
}
"""Values at which windows, chunks, caps and scales of logits show, where the config has them."""
TYPES = tuple(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
Kernel = Literal["auto", "sdpa", "eager"]
Layout = Literal["shared prefix", "padded", "refused", "not built"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found of a type. reason: why it is not on the shared prefix. processor: `own` or `stand-in`.
    difference: largest of a log-prob, in nats; gradient: largest relative one; 0 where none was compared."""

    model_type: str
    layout: Layout
    reason: str = ""
    processor: str = ""
    difference: float = 0.0
    gradient: float = 0.0


def prove(model_type: str, folder: Path, changes: Mapping[str, Any] | None = None) -> Row:
    """Build the type small in `folder` and compare. Whatever its own code raises is the row's reason.

    changes: values of the small config by dotted key, for what a type's sizes differ in.
    """
    config = real_config(model_type)
    if reason := refusal(config):
        return Row(model_type=model_type, layout="refused", reason=reason)
    try:
        model, processor, kind = _tiny(config, changes or {})
        groups = _groups(processor)
        model.save_pretrained(folder)
    except Exception as error:
        return Row(model_type=model_type, layout="not built", reason=_why(model_type, error))
    del model
    try:
        found = _compare(folder, groups, "padded")
    except Exception as error:
        return Row(model_type=model_type, layout="not built", reason=_why(model_type, error), processor=kind)
    if not found.exact:
        return Row(model_type=model_type, layout="refused", reason=f"padded differs from its own forward in {found}")
    try:
        _sample(folder, processor, groups)
    except Exception as error:
        return Row(model_type=model_type, layout="not built", reason=f"sampling: {_said(error)}", processor=kind)
    return _shared(model_type, folder, groups, kind, found)


def _shared(model_type: str, folder: Path, groups: list[Group], kind: str, padded_found: "Differences") -> Row:
    family = family_of(load_model(ModelConfig(name=str(folder))))
    measured = padded_found
    reason = family.why_padded if family.layout == "padded" else ""
    if not reason:
        try:
            found = _compare(folder, groups, "prefix")
            reason = "" if found.exact else f"the shared prefix differs in {found}"
            measured = padded_found if reason else found
        except Exception as error:
            reason = _said(error)
    return Row(
        model_type=model_type,
        layout="padded" if reason else "shared prefix",
        reason=reason,
        processor=kind,
        difference=measured.logp,
        gradient=measured.gradient,
    )


@dataclass(frozen=True)
class Differences:
    """The largest of log-probs, in nats, and the largest relative one of a weight's gradient."""

    logp: float
    gradient: float

    @property
    def exact(self) -> bool:
        return self.logp <= LOGP and self.gradient <= GRADIENT

    def __str__(self) -> str:
        differs = {"log-probs": self.logp > LOGP, "gradients": self.gradient > GRADIENT}
        return " and ".join(name for name, is_larger in differs.items() if is_larger)


def _compare(folder: Path, groups: list[Group], layout: str) -> Differences:
    """The worst of: our kernel and sdpa; frozen tower and trained one; all weights and LoRA; a router's loss."""
    worst: tuple[list[float], list[float]] = ([], [])
    dense: Kernel = "sdpa" if _has_sdpa(folder) else "eager"
    ways: list[tuple[Kernel, bool, bool]] = [("auto", False, True), ("auto", True, False), (dense, False, False)]
    for kernel, trains_tower, lora in ways:
        model = _model(folder, kernel, trains_tower=trains_tower, lora=lora)
        family = family_of(model)
        placed = [family.place(group) for group in groups]
        batch = prefix.lay_out(placed) if layout == "prefix" else padded.lay_out(placed)
        given = [replace(group, model_inputs=family.inputs_of(group)) for group in groups]
        expected = torch.cat([one for group in given for one in plain.log_probs(model, group, family.name)])
        expected_gradients = gradients(model, expected)
        found = _score(model, placed, batch)
        worst[0].append(float((found.logp - expected).detach().abs().max()))
        worst[1].append(worst_gradient(gradients(model, found.logp), expected_gradients))
        if layout == "prefix" and not lora and family.router_coefficient:
            shared, repeated = (_score(model, placed, one).router_loss for one in (batch, padded.lay_out(placed)))
            assert shared is not None and repeated is not None
            worst[0].append(float((shared - repeated).detach().abs()))
            worst[1].append(worst_gradient(gradients(model, shared[None]), gradients(model, repeated[None])))
        if layout == "padded":  # the slow oracle, which no kernel is chosen for
            break
    return Differences(*(largest(values) for values in worst))


def _score(model: nn.Module, groups: list[Group], batch: Batch) -> LogProbs:
    smallest, attention.SMALLEST_GROUP = attention.SMALLEST_GROUP, 0
    try:  # our kernel serves groups as short as these, too
        return log_probs(model, batch, groups=groups, features=encode(model, groups))
    finally:
        attention.SMALLEST_GROUP = smallest


def _model(folder: Path, kernel: Kernel, *, trains_tower: bool, lora: bool) -> nn.Module:
    config = ModelConfig(
        name=str(folder), attn_implementation=kernel, freeze_vision=not trains_tower, freeze_projector=not trains_tower
    )
    model = load_model(config)
    if not lora:
        return unfreeze(model, config).eval()
    torch.manual_seed(0)
    adapted = add_lora(model, LoraConfig(r=4))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.05)
    return adapted.eval()


def _has_sdpa(folder: Path) -> bool:
    """Whether transformers has sdpa for all parts of the model."""
    kind = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(read_config(ModelConfig(name=str(folder))))]
    return bool(kind._supports_sdpa)


def gradients(model: nn.Module, logp: Tensor) -> dict[str, Tensor]:
    """Gradients of a sum with uneven weights, so that no two tokens can stand in for each other."""
    model.zero_grad()
    weights = torch.linspace(-1.0, 1.5, len(logp), device=logp.device)
    (logp * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst_gradient(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest relative difference over parameters; one that only one side has counts as zero on the other."""
    norm = max(float(g.norm()) for g in expected.values())
    return largest(
        float((found.get(n, torch.zeros_like(g)) - g).norm()) / max(float(g.norm()), 1e-4 * norm)
        for n, g in expected.items()
    )


def largest(values: Iterable[float]) -> float:
    """Not a number where any of them is none, unlike Python's own."""
    return float(torch.tensor([*values], dtype=torch.float64).max())


def _sample(folder: Path, processor: Any, groups: list[Group]) -> None:
    """Three completions of each prompt; their log-probs are what the model itself gives them."""
    model = load_model(ModelConfig(name=str(folder)))
    settings, family = SamplingSettings(max_new_tokens=6), family_of(model)
    answers = sample(model, processor, groups, 3, settings, seeds=list(range(len(groups))))
    for group, sampled in zip(groups, answers, strict=True):
        ids = tuple(one.ids for one in sampled)
        drawn = replace(
            group,
            model_inputs=family.inputs_of(group),
            responses=ids,
            weights=tuple(torch.ones(len(one)) for one in ids),
        )
        with torch.no_grad():
            own = plain.log_probs(model, drawn, family.name)
        for one, expected in zip(sampled, own, strict=True):
            assert one.log_probs is not None
            difference = float((one.log_probs - expected).abs().max())
            if difference > SAMPLED:
                raise ModelError(f"log-probs of completions differ by {difference:.1e} from the model's own")


def _tiny(config: hf.PretrainedConfig, changes: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """The tiny model, its processor or what stands in for it, and which of the two."""
    torch.manual_seed(0)
    if not is_timm_available():
        stand_in_for_timm()
    bites = {
        f"{path}.{key}".lstrip("."): BITES[key]
        for path, node in nodes(config.to_dict())
        for key in node.keys() & BITES.keys()
        if isinstance(node[key], int | float)
    } | dict(changes)
    try:
        model, processor, kind = *build(config, family_for(config.model_type), bites), "own"
    except (ModelError, ImportError, TypeError):  # of a processor that needs more than there is
        model, processor, kind = *build_with_stand_in(config, bites), "stand-in"
    has_tower = not any(isinstance(module, TimmTower) for module in model.modules())
    return model, processor, kind if has_tower else f"{kind}, and a stand-in's tower"


def _groups(processor: Any) -> list[Group]:
    """Ragged groups with 3, 2 and 1 responses, one or two images of different sizes, and one without any."""
    groups = [_group(processor, ((50, 70),), (7, 1, 11), "What is shown in this image?", 0)]
    for sizes, lengths, question in ((((90, 40), (30, 80)), (4, 9), "Describe the image."), ((), (6,), "yes or no")):
        try:
            groups.append(_group(processor, sizes, lengths, question, len(groups)))
        except ValueError:  # some take one image, and some always one
            continue
    return [*groups, _group(processor, ((56, 56),), (5,), "yes or no", 3)]


def _group(
    processor: Any, sizes: tuple[tuple[int, int], ...], lengths: tuple[int, ...], question: str, seed: int
) -> Group:
    content = [{"type": "image"} for _ in sizes] + [{"type": "text", "text": question}]
    if processor.chat_template:
        message = {"role": "user", "content": content}
        text = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    else:
        text = "<image>" * len(sizes) + question
    random = np.random.default_rng(seed)
    images = [Image.fromarray((random.random((*size, 3)) * 255).astype("uint8")) for size in sizes]
    inputs = dict(processor(text=[text], images=[images] if images else None, return_tensors="pt"))
    generator = torch.Generator().manual_seed(seed)
    responses = tuple(torch.randint(100, 500, (length,), generator=generator) for length in lengths)
    return Group(
        id=f"group {seed}",
        prompt_ids=inputs.pop("input_ids")[0],
        responses=responses,
        weights=tuple(torch.ones(length) for length in lengths),
        model_inputs={k: v for k, v in inputs.items() if k not in ("attention_mask", "labels")},
    )


def _why(model_type: str, error: Exception) -> str:
    """Why nothing was compared: in words where it was looked into, else as it was raised."""
    return UNREACHED.get(model_type) or _said(error)


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = re.sub(r"/\S*/(?=[\w.-]+)", "", lines[0])  # folders that are gone when it is read
    return f"{type(error).__name__} in {Path(last.filename).name}: {said[:160]}"
