"""TRL 1.16 through its own trainers, and the same with its fused head made to score response positions only."""

import tempfile
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset, load_dataset
from peft import LoraConfig
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedModel,
    ProcessorMixin,
    Trainer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from benchmarks.step.case import Case
from benchmarks.step.rollouts import longest, recorded_reward
from benchmarks.step.shapes import read_processor


def prepare(case: Case) -> None:
    """Import-time choices. Without Triton (on a CPU) TRL's head scores every position and masks most of them; `compact`
    makes it pick the positions first, which is what it does on a GPU. The kernel itself stays the one without Triton.
    """
    if case.program == "compact":
        trl.trainer.utils._use_triton = lambda device: True


def load(case: Case, folder: Path) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Model and processor, by transformers."""
    dtype = torch.bfloat16 if case.device == "cuda" else torch.float32
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
    return model.to(case.device), read_processor(folder)


def train(
    case: Case, model: PreTrainedModel, processor: ProcessorMixin, data: Path, callbacks: list[TrainerCallback]
) -> Trainer:
    """Train as the case says; returns the trainer, done."""
    build = {"dpo": _dpo, "grpo": _grpo, "sft": _sft}[case.task]
    trainer = build(case, model, processor, load_dataset("parquet", data_files=str(data), split="train"))
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train()
    return trainer


def _dpo(case: Case, model: PreTrainedModel, processor: ProcessorMixin, rows: Dataset) -> Trainer:
    return DPOTrainer(
        model=model,
        args=DPOConfig(**_settings(case, groups=case.forward_groups), beta=case.beta, max_length=None,
                       train_sampling_strategy="sequential"),
        train_dataset=rows,
        processing_class=processor,
        peft_config=_lora(case, model),
    )  # fmt: skip


def _grpo(case: Case, model: PreTrainedModel, processor: ProcessorMixin, rows: Any) -> Trainer:
    """The update alone: answers come from the data by TRL's own `rollout_func`, tokenised before training starts."""
    tokenizer = processor.tokenizer
    prompt_ids = {_said(row["prompt"]): _prompt_ids(processor, row) for row in rows}
    answers = {
        _said(row["prompt"]): [
            [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            for answer in row["answers"]
        ]
        for row in rows
    }

    def fixed_rollouts(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        asked = [_said(prompt) for prompt in prompts]
        taken: dict[str, int] = {}
        completions = []
        for said in asked:
            completions.append(answers[said][taken.get(said, 0)])
            taken[said] = taken.get(said, 0) + 1
        return {"prompt_ids": [prompt_ids[s] for s in asked], "completion_ids": completions, "logprobs": None}

    judge: Any = recorded_reward
    return GRPOTrainer(
        model=model,
        reward_funcs=judge,
        args=GRPOConfig(
            **_settings(case, groups=case.forward_groups * case.responses),
            beta=case.beta,
            num_generations=case.responses,
            max_completion_length=longest(case),
            loss_type="grpo",
            shuffle_dataset=False,
        ),
        train_dataset=rows,
        processing_class=processor,
        peft_config=_lora(case, model),
        rollout_func=None if case.samples else fixed_rollouts,
    )


def _sft(case: Case, model: PreTrainedModel, processor: ProcessorMixin, rows: Dataset) -> Trainer:
    return SFTTrainer(
        model=model,
        args=SFTConfig(**_settings(case, groups=case.forward_groups), max_length=None,
                       completion_only_loss=True, train_sampling_strategy="sequential"),
        train_dataset=rows,
        processing_class=processor,
        peft_config=_lora(case, model),
    )  # fmt: skip


def _settings(case: Case, groups: int) -> dict[str, Any]:
    return {
        "output_dir": tempfile.mkdtemp(),
        "max_steps": case.steps,
        "per_device_train_batch_size": groups,
        "gradient_accumulation_steps": case.groups // case.forward_groups,
        "learning_rate": case.learning_rate,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": case.device == "cpu",
        "bf16": case.device == "cuda",
        "gradient_checkpointing": case.gradient_checkpointing,
        "dataloader_num_workers": case.workers,
        "dataloader_persistent_workers": case.workers > 0,
        "dataloader_pin_memory": case.device == "cuda",
        "disable_tqdm": True,
        "seed": 42,
    }


def _lora(case: Case, model: PreTrainedModel) -> LoraConfig:
    """All linear layers of the language model, as Sightline's `target_modules: language`."""
    from sightline.models.families.find import family_of
    from sightline.models.lora import part_targets

    return LoraConfig(
        r=case.lora_rank,
        lora_alpha=2 * case.lora_rank,
        target_modules=part_targets(family_of(model), ["language"]),
        task_type="CAUSAL_LM",
    )


def _said(prompt: list[dict[str, Any]]) -> str:
    """The text of a question, whether or not TRL has put the image in."""
    content = prompt[0]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def _prompt_ids(processor: Any, row: dict[str, Any]) -> list[int]:
    content = [{"type": "image"}, {"type": "text", "text": _said(row["prompt"])}]
    rendered = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=[rendered], images=[row["images"]], add_special_tokens=False)["input_ids"][0]
