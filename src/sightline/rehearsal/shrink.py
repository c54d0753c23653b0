"""A recipe → the same recipe at the size of a rehearsal, and what was changed for it.

Everything that decides whether a run works stays: objective, adapter, reference, rewards, format of the data, options'
names. What only decides how long it takes shrinks.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from sightline.config import (
    EvaluationConfig,
    LoraConfig,
    ModelConfig,
    Recipe,
    ReferenceConfig,
    SamplerConfig,
    TransformersSamplerConfig,
    VLLMSamplerConfig,
)
from sightline.config.online import SamplingConfig
from sightline.config.online_objectives import OnlineConfig
from sightline.config.pairs import JudgedPairsConfig, OmissionConfig, PairsConfig
from sightline.errors import RecipeError
from sightline.memory.shapes import find_config
from sightline.models.load import load_processor
from sightline.objectives.objective import build
from sightline.rehearsal.data import small_data
from sightline.rehearsal.rows import Kind
from sightline.rehearsal.tiny_families import FAMILIES, family_for, processor_kind
from sightline.rehearsal.tiny_models import save

STEPS = 3
ITEMS = 8
"""Questions of a task that scores while training."""
SIZES = ("shortest_edge", "longest_edge", "height", "width", "min_pixels", "max_pixels", "max_image_tiles",
         "min_patches", "max_patches", "image_seq_len", "image_seq_length")  # fmt: skip
"""Options of a processor that are sizes: a tiny model has its own."""


@dataclass(frozen=True, kw_only=True)
class Small:
    """The recipe to run, and one line for everything that is not as in the real one."""

    recipe: Recipe
    changes: tuple[str, ...]


def shrink(recipe: Recipe, folder: Path) -> Small:
    """The recipe's rehearsal; tiny model and rows are written into `folder`. Raises `RecipeError`."""
    changes: list[str] = []
    model = _small_model(recipe, folder, changes)
    data = small_data(recipe.data, folder, kind_of(recipe), changes)
    small = replace(
        recipe,
        model=model,
        data=data,
        lora=_fresh_adapter(recipe, changes),
        sampler=_small_sampler(recipe, changes),
        pairs=_small_pairs(recipe, changes),
        rounds=_small_rounds(recipe, changes),
        reference=_small_reference(recipe, model, changes),
        evaluation=_small_evaluation(recipe.evaluation, changes),
        output_dir=str(folder / "run"),
        overwrite_output_dir=False,
        resume=False,
        nproc_per_node=None,
        engine="auto",
        report_to=[],
        num_train_epochs=1.0,
        max_steps=STEPS,
        warmup_steps=min(recipe.warmup_steps, 1),
        logging_steps=1,
        eval_steps=None if recipe.eval_steps is None else STEPS,
        save_steps=STEPS - 1,
        per_device_train_batch_size=min(recipe.per_device_train_batch_size, 2),
        gradient_accumulation_steps=min(recipe.gradient_accumulation_steps, 2),
        dataloader_num_workers=min(recipe.dataloader_num_workers, 1),
    )
    if recipe.bf16 is None and recipe.model.dtype == "bfloat16" and (recipe.use_cpu or not torch.cuda.is_available()):
        # on a GPU autocast brings frozen weights in bfloat16 and trained ones in float32 together
        small = replace(small, bf16=True)
        changes.append("bf16: true, as a GPU has it where the recipe says nothing")
    if recipe.engine != "auto" or (recipe.nproc_per_node or 1) > 1:
        asked = "" if recipe.nproc_per_node is None else f"{recipe.nproc_per_node} "
        changes.append(f"processes: a single one for {asked}under `engine: {recipe.engine}`")
    before = recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps
    after = small.per_device_train_batch_size, small.gradient_accumulation_steps
    changes.append(f"steps: {STEPS}, of {after[0]} × {after[1]} rows in place of {before[0]} × {before[1]}")
    if small.dataloader_num_workers < recipe.dataloader_num_workers:
        changes.append(f"workers: {small.dataloader_num_workers} in place of {recipe.dataloader_num_workers}")
    if recipe.report_to:
        changes.append(f"trackers: none in place of {', '.join(recipe.report_to)}")
    return Small(recipe=small, changes=tuple(changes))


def kind_of(recipe: Recipe) -> Kind:
    """What a row is to the recipe's objective."""
    kinds: dict[int | None, Kind] = {0: "prompts", 1: "demonstrations", 2: "pairs", None: "labelled"}
    sampled = recipe.samples_completions or recipe.rounds is not None
    return "prompts" if sampled else kinds[build(recipe.objective).num_responses]


def config_of(recipe: Recipe) -> PretrainedConfig:
    """The real model's config. Raises `RecipeError` where no tiny model can stand for it."""
    config = find_config(recipe.model)
    if processor_kind(config.model_type, family_for(config.model_type)) is None:
        raise _no_tiny_model(recipe, config, "transformers has no processor for it here")
    return config


def _no_tiny_model(recipe: Recipe, config: PretrainedConfig, why: str) -> RecipeError:
    return RecipeError(
        f"There is no tiny model of the family {config.model_type!r}, which {recipe.model.name} belongs to, so it "
        f"cannot be rehearsed: {why}. Try `--max-steps 3` on the real model instead."
    )


def _small_model(recipe: Recipe, folder: Path, changes: list[str]) -> ModelConfig:
    if recipe.model.name == "embedded":
        return recipe.model
    config = config_of(recipe)
    try:
        place = save(config, folder / "model")
    except Exception as error:
        if config.model_type in FAMILIES:
            raise
        # whatever the code of a type raises that no tiny model was made of before
        said = (str(error).strip().splitlines() or ["no message"])[0]
        raise _no_tiny_model(recipe, config, f"{type(error).__name__}: {said}") from error
    model = replace(recipe.model, name=str(place), revision=None, trust_remote_code=False)
    processor = load_processor(model)  # refuses an option that this class of processor does not have
    left_out = [name for name in model.processor if name in SIZES]
    said = f"; sizes of its own for {', '.join(left_out)}" if left_out else ""
    kind = f"a tiny random {config.model_type}, {type(processor).__name__}"
    changes.append(f"model: {kind}, for {recipe.model.name}{said}")
    if recipe.model.trust_remote_code:
        changes.append("code: transformers' own; what `model.trust_remote_code` allows is not run")
    if model.attn_implementation == "flex_attention" and not torch.cuda.is_available():
        model = replace(model, attn_implementation="auto")
        changes.append("attention: auto, because flex_attention has no backward pass on a CPU")
    return replace(model, processor={name: value for name, value in model.processor.items() if name not in SIZES})


def _fresh_adapter(recipe: Recipe, changes: list[str]) -> LoraConfig | None:
    if recipe.lora is None or recipe.lora.adapter is None:
        return recipe.lora
    changes.append(f"adapter: a fresh one for {recipe.lora.adapter}, which belongs to the real model")
    return replace(recipe.lora, adapter=None)


def _small_evaluation(evaluation: EvaluationConfig, changes: list[str]) -> EvaluationConfig:
    if not evaluation.tasks and evaluation.best is None and not evaluation.limits:
        return evaluation
    changes.append(f"scores: of {ITEMS} items a task, without stopping early, for `evaluation` as it is")
    small = min(evaluation.limit or ITEMS, ITEMS)
    return replace(evaluation, every=STEPS, limit=small, patience=None, limits={})


def _small_pairs(recipe: Recipe, changes: list[str]) -> PairsConfig | None:
    """A random model's completions never end and differ in nothing but chance: as they are they make pairs."""
    if isinstance(recipe.objective, OnlineConfig) or not (recipe.samples_completions or recipe.rounds):
        return recipe.pairs
    config = recipe.pairs or JudgedPairsConfig()  # pyright: ignore[reportCallIssue]
    loose: dict[str, Any] = {"keep_truncated": True}
    if isinstance(config, JudgedPairsConfig):
        loose["margin"] = 0.0
    if recipe.rounds and not isinstance(config, OmissionConfig):
        loose["length_tolerance"] = None
    changes.append("pairs: without margin and balance, cut-off completions among them")
    return replace(config, **loose)


def _small_reference(recipe: Recipe, model: ModelConfig, changes: list[str]) -> ReferenceConfig:
    if recipe.reference.type != "teacher":
        return recipe.reference
    changes.append(f"teacher: the tiny model itself for {recipe.reference.model}")
    return replace(recipe.reference, model=model.name, adapter=None)


def _small_rounds(recipe: Recipe, changes: list[str]) -> int | None:
    if recipe.rounds is None or recipe.rounds <= 2:
        return recipe.rounds
    changes.append(f"rounds: 2 in place of {recipe.rounds}")
    return 2


def _small_sampler(recipe: Recipe, changes: list[str]) -> SamplerConfig | None:
    if not recipe.samples_completions and recipe.rounds is None:
        return None
    sampler = recipe.sampler or TransformersSamplerConfig()  # pyright: ignore[reportCallIssue]
    if isinstance(sampler, VLLMSamplerConfig):
        changes.append("sampler: transformers for vllm")
        shared = {f.name: getattr(sampler, f.name) for f in fields(SamplingConfig)}
        sampler = TransformersSamplerConfig(**shared)
    small = replace(
        sampler,
        num_generations=min(sampler.num_generations, 4),
        max_completion_length=min(sampler.max_completion_length, 16),
        steps_per_generation=min(sampler.steps_per_generation, 2),
        num_iterations=min(sampler.num_iterations, 2),
    )
    asked = f"{sampler.num_generations} answers of {sampler.max_completion_length} tokens"
    changes.append(f"sampling: {small.num_generations} answers of {small.max_completion_length} tokens for {asked}")
    return small
