"""Recipe → transformers' `TrainingArguments`."""

import os
from typing import Any

import torch
from transformers import TrainingArguments

from sightline.config import Recipe
from sightline.config.engine import Engine

SAME_NAME = (
    "num_train_epochs",
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "optim",
    "use_cpu",
    "dataloader_num_workers",
    "logging_steps",
    "save_total_limit",
    "seed",
    "run_name",
    "ddp_timeout",
)


def training_arguments(recipe: Recipe, *, has_eval: bool, resumes: bool = False) -> TrainingArguments:
    """The Trainer's settings: one of its batches is this process's whole step, so its own accumulation stays 1."""
    on_cpu = recipe.use_cpu or not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=recipe.output_dir,
        **{name: getattr(recipe, name) for name in SAME_NAME if name not in ("use_cpu", "optim")},
        optim=optimizer_name(recipe),
        use_cpu=on_cpu,
        bf16=uses_bf16(recipe),
        per_device_train_batch_size=recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps,
        per_device_eval_batch_size=recipe.per_device_eval_batch_size or recipe.per_device_train_batch_size,
        gradient_accumulation_steps=1,
        eval_strategy="steps" if has_eval and recipe.eval_steps else "no",
        eval_steps=recipe.eval_steps,
        eval_on_start=recipe.eval_on_start and has_eval and not resumes,
        save_strategy="steps" if recipe.save_steps else "no",
        save_steps=recipe.save_steps or 500,
        report_to=[tracker for tracker in recipe.report_to if tracker not in ("none", "tensorboard")] or "none",
        remove_unused_columns=False,
        label_names=[],
        logging_nan_inf_filter=False,  # the default hides NaN
        disable_tqdm=True,  # sightline.training.watch.progress draws the bar
        dataloader_pin_memory=not on_cpu,
        dataloader_persistent_workers=recipe.dataloader_num_workers > 0,
        average_tokens_across_devices=False,
        ddp_broadcast_buffers=False,  # a collective inside a forward, which may run out of memory
        ddp_find_unused_parameters=not (recipe.model.freeze_vision and recipe.model.freeze_projector),
        **engine_arguments(recipe.engine),
    )


def optimizer_name(recipe: Recipe) -> str:
    """The recipe's optimizer; AdamW on a GPU is the one whose step is a few kernels."""
    on_gpu = not recipe.use_cpu and torch.cuda.is_available()
    return "adamw_torch_fused" if on_gpu and recipe.optim == "adamw_torch" else recipe.optim


def engine_arguments(engine: Engine) -> dict[str, Any]:
    """The settings of an engine, as transformers takes them; none for DDP, or where the launcher decides."""
    if engine == "fsdp2":
        return {"fsdp": True, "fsdp_config": {"version": 2, "reshard_after_forward": True}}
    return {}


def uses_bf16(recipe: Recipe) -> bool:
    """Whether forwards run under bfloat16 autocast: by the recipe, else where the GPU has it."""
    on_gpu = not recipe.use_cpu and torch.cuda.is_available()
    return (
        recipe.bf16 if recipe.bf16 is not None else on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    )


def device(recipe: Recipe) -> torch.device:
    """Where this process trains. Schedulers may show each process a single GPU, which is number 0 to all of them."""
    if recipe.use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
