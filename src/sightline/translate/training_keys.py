"""Keys of transformers' TrainingArguments, which TRL's and LLaMA-Factory's configs share."""

from typing import Any

from sightline.translate.translation import Rule, Translation

SAME = (
    "output_dir", "overwrite_output_dir", "seed", "per_device_eval_batch_size", "num_train_epochs", "max_steps",
    "learning_rate", "lr_scheduler_type", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "optim", "bf16", "use_cpu", "gradient_checkpointing", "dataloader_num_workers", "logging_steps", "save_total_limit",
    "run_name", "per_device_train_batch_size", "gradient_accumulation_steps", "warmup_steps",
    "ddp_timeout",
)  # fmt: skip
TRACKERS = ("tensorboard", "trackio", "wandb")

NEEDLESS = {
    "do_train": "`sightline train` trains",
    "do_eval": "held-out rows are evaluated where there are any",
    "remove_unused_columns": "no column is removed",
    "ddp_find_unused_parameters": "decided by what is trained",
    "logging_first_step": "the first step is logged where `logging_steps` is 1; metrics.jsonl has every logged step",
    "log_level": "the terminal shows one line a logged step",
    "disable_tqdm": "there is no bar where no terminal is",
    "dataloader_pin_memory": "done where there is a GPU",
    "dataloader_persistent_workers": "workers live as long as the run",
    "prediction_loss_only": "evaluation never keeps logits",
    "gradient_checkpointing_kwargs": "always without reentrance",
    "logging_strategy": "by steps, see `logging_steps`",
    "include_num_input_tokens_seen": "`num_tokens` is always logged",
}
MISSING = {
    "fp16": "there is no loss scaling here; bf16, or `model.dtype: float16` for frozen weights",
    "tf32": "not a field; set it in torch",
    "push_to_hub": "nothing is uploaded; the run folder can be",
    "hub_model_id": "nothing is uploaded",
    "deepspeed": "see `engine: zero1`, zero2 and zero3, and docs/scale.md",
    "fsdp": "see `engine: fsdp2`, and docs/scale.md",
    "fsdp_config": "see `engine: fsdp2`, and docs/scale.md",
    "load_best_model_at_end": "checkpoints are kept, the last one is the result; compare them with `sightline compare`",
    "metric_for_best_model": "see load_best_model_at_end",
    "greater_is_better": "see load_best_model_at_end",
    "torch_compile": "not a field",
    "neftune_noise_alpha": "not an option here",
    "auto_find_batch_size": "it changes the effective batch; here a step that does not fit is cut finer instead",
    "data_seed": "one seed, `seed`, for the order of rows too",
    "save_only_model": "checkpoints can be resumed from, so they hold the optimizer",
    "label_smoothing_factor": "the objective's own `label_smoothing` is not the same thing",
}


def needless(why: str) -> Rule:
    """A rule for what holds here without being said."""
    return lambda translation, value: translation.holds(why)


def missing(why: str) -> Rule:
    """A rule for what has no counterpart; said only where it asks for something."""

    def rule(translation: Translation, value: Any) -> None:
        asks = value not in (None, False, 0, "", "no", "none")
        (translation.lacks if asks else translation.holds)(why if asks else "off, as it is here")

    return rule


def _report_to(translation: Translation, value: Any) -> None:
    names = [value] if isinstance(value, str) else list(value or [])
    known = [name for name in names if name in TRACKERS]
    if known:
        translation.put("report_to", known)
    for name in names:
        if name == "none":
            translation.holds("no tracker is used unless named")
        elif name not in TRACKERS:
            translation.lacks(f"tracker {name}; there are {', '.join(TRACKERS)}, and metrics.jsonl always")


def _save(translation: Translation, value: Any) -> None:
    if translation.given.get("save_strategy", "steps") in ("steps", None) and float(value) >= 1:
        translation.put("save_steps", int(value))
    elif float(value) < 1:
        translation.lacks("a share of all steps; give their number as `save_steps`")
    else:
        translation.holds(f"save_strategy is {translation.given['save_strategy']}")


def _eval(translation: Translation, value: Any) -> None:
    strategy = translation.given.get("eval_strategy", translation.given.get("evaluation_strategy", "no"))
    if strategy != "steps":
        translation.holds(f"eval_strategy is {strategy}")
    elif float(value) < 1:
        translation.lacks("a share of all steps; give their number as `eval_steps`")
    else:
        translation.put("eval_steps", int(value))


def _strategy(what: str) -> Rule:
    def rule(translation: Translation, value: Any) -> None:
        if value == "steps":
            translation.holds(f"given by `{what}_steps`")
        elif value == "no":
            translation.holds(f"no `{what}_steps`: at the end of the run only")
        else:
            translation.lacks(f"`{what}_steps` counts steps; at the end of the run it is done in any case")

    return rule


def _resume(translation: Translation, value: Any) -> None:
    if value in (None, False, "null"):
        translation.holds("a run starts anew unless `resume` is given")
    else:
        translation.put("resume", value)


def _warmup_ratio(translation: Translation, value: Any) -> None:
    if float(translation.given.get("warmup_steps") or 0) > 0:
        translation.holds("warmup_steps is given too and wins, as in transformers")
    else:
        translation.put("warmup_steps", float(value))


def _workers(translation: Translation, value: Any) -> None:
    translation.put("data.dataset_num_proc", int(value or 1))


TRAINING_RULES: dict[str, Rule] = {
    **{name: name for name in SAME},
    **{name: needless(why) for name, why in NEEDLESS.items()},
    **{name: missing(why) for name, why in MISSING.items()},
    "activation_checkpointing": "gradient_checkpointing",
    "no_cuda": "use_cpu",
    "report_to": _report_to,
    "save_steps": _save,
    "eval_steps": _eval,
    "save_strategy": _strategy("save"),
    "eval_strategy": _strategy("eval"),
    "evaluation_strategy": _strategy("eval"),
    "resume_from_checkpoint": _resume,
    "warmup_ratio": _warmup_ratio,
    "dataset_num_proc": _workers,
}
"""By key of TrainingArguments."""
