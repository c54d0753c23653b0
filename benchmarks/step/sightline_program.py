"""Sightline through `sightline.training.run.train` with a recipe, as the command `sightline train` calls it.

GRPO's update is measured on fixed answers: the online trainer runs as it is, with a sampler that reads them.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback

from benchmarks.step.case import Case
from benchmarks.step.rollouts import FixedSampler, longest, recorded_reward
from sightline.config import DataConfig, DPOConfig, LoraConfig, ModelConfig, Recipe, SFTConfig
from sightline.config.online import TransformersSamplerConfig
from sightline.config.online_objectives import GRPOConfig
from sightline.models.load import load_model, load_processor
from sightline.models.load import take_attention as set_attention
from sightline.training.online import setup as online_setup
from sightline.training.run import RunResult
from sightline.training.run import train as train_recipe


def prepare(case: Case) -> None:
    """Fixed answers in place of sampling."""
    if case.samples:
        return
    online_setup.build_sampler = lambda config, recipe, model, processor, say: FixedSampler(processor.tokenizer)


def take_attention(case: Case, model: PreTrainedModel) -> None:
    """The attention that loading would have given a model that is made in memory."""
    config = ModelConfig(name="in memory", attn_implementation=case.attention)
    if case.attention in ("sdpa", "eager"):
        model.get_decoder().set_attn_implementation(case.attention)  # pyright: ignore
    else:
        set_attention(model, config, torch.device(case.device))


def load(case: Case, folder: Path) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Model and processor, as a recipe's `model` group loads them."""
    config = ModelConfig(name=str(folder), attn_implementation=case.attention)
    return load_model(config, torch.device(case.device)), load_processor(config)


def train(
    case: Case, model: PreTrainedModel, processor: ProcessorMixin, data: Path, callbacks: list[TrainerCallback]
) -> RunResult:
    """Train as the case says."""
    recipe = Recipe(
        model=ModelConfig(name="random"),
        lora=LoraConfig(r=case.lora_rank),
        data=DataConfig(source=str(data)),
        output_dir=tempfile.mkdtemp(),
        overwrite_output_dir=True,
        max_steps=case.steps,
        per_device_train_batch_size=case.forward_groups,
        gradient_accumulation_steps=case.groups // case.forward_groups,
        learning_rate=case.learning_rate,
        shuffle=False,
        dataloader_num_workers=case.workers,
        use_cpu=case.device == "cpu",
        gradient_checkpointing=case.gradient_checkpointing,
        **_objective(case),
    )
    return train_recipe(
        recipe,
        model=model,
        processor=processor,
        rewards=[recorded_reward] if case.task == "grpo" else [],
        callbacks=callbacks,
        console=Console(quiet=True),
    )


def _objective(case: Case) -> dict[str, Any]:
    match case.task:
        case "dpo":
            return {"objective": DPOConfig(beta=case.beta)}
        case "sft":
            return {"objective": SFTConfig()}
        case "grpo":
            # TRL multiplies its KL term by the ratio, too
            objective = GRPOConfig(beta=case.beta, kl_ratio_corrected=case.beta > 0)
            sampler = TransformersSamplerConfig(num_generations=case.responses, max_completion_length=longest(case))
            return {"objective": objective, "sampler": sampler}
