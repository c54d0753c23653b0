"""Keys of transformers' TrainingArguments, which TRL's and LLaMA-Factory's configs share."""

import json
import re
from pathlib import Path
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

HELD_OUT = ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "eval_mean_token_accuracy")
"""Figures of held-out rows that the best weights can be chosen by."""

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
    "push_to_hub": "after the run: `sightline export RUN FOLDER --push-to-hub USER/NAME`",
    "hub_model_id": "the name of `sightline export RUN FOLDER --push-to-hub USER/NAME`",
    "hub_private_repo": "`sightline export … --push-to-hub USER/NAME --private`",
    "fsdp_config": "`engine: fsdp2` decides by itself what is spread",
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


def _best(translation: Translation, value: Any) -> None:
    """Kept in OUTPUT/best here, beside the last weights."""
    given = translation.given
    name = "eval_" + str(given.get("metric_for_best_model") or "loss").removeprefix("eval_")
    if not value:
        translation.holds("off, as it is here")
    elif name not in HELD_OUT:
        translation.lacks(f"by {name}; `evaluation.best` takes {', '.join(HELD_OUT)}, or scores of benchmarks")
    elif given.get("eval_strategy", given.get("evaluation_strategy", "no")) != "steps":
        translation.lacks("held-out rows are evaluated at the end only; give `eval_steps`, and `evaluation.best`")
    else:
        translation.put("evaluation.best", name)


def _deepspeed(translation: Translation, value: Any) -> None:
    stage, offloads = _zero_stage(value)
    if stage is None:
        translation.lacks("`engine: zero1`, `zero2` or `zero3`, after its `zero_optimization.stage`")
        return
    if stage == 0:
        translation.holds("stage 0 spreads nothing")
    else:
        translation.put("engine", f"zero{stage}")
    if offloads:
        translation.lacks("nothing is offloaded; `sightline plan` says what fits")


def _zero_stage(value: Any) -> tuple[int | None, bool]:
    """Stage and whether anything is offloaded: from the configuration where it is there, else by the file's name."""
    if isinstance(value, str) and Path(value).is_file():
        value = json.loads(Path(value).read_text(encoding="utf-8"))
    if isinstance(value, dict):
        zero = value.get("zero_optimization", {})
        return zero.get("stage", 0), any("offload" in name for name in zero)
    found = re.search(r"(?:z|zero|stage)[-_]?([0-3])", Path(str(value)).stem)
    return (int(found[1]) if found else None), "offload" in Path(str(value)).stem


def _fsdp(translation: Translation, value: Any) -> None:
    if value:
        translation.put("engine", "fsdp2")
    else:
        translation.holds("off, as it is here")


def _warmup_ratio(translation: Translation, value: Any) -> None:
    if float(translation.given.get("warmup_steps") or 0) > 0:
        translation.holds("warmup_steps is given too and wins, as in transformers")
    else:
        translation.put("warmup_steps", float(value))


def streaming(translation: Translation, value: Any) -> None:
    """Both count steps of a stream, whose rows nobody counts."""
    if not value:
        translation.holds("off, as it is here")
    elif int(translation.given.get("max_steps") or -1) > 0:
        translation.put("data.streaming", True)
    else:
        translation.lacks("a stream needs `max_steps`")


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
    "load_best_model_at_end": _best,
    "metric_for_best_model": needless("read with load_best_model_at_end"),
    "greater_is_better": needless("known of every figure"),
    "deepspeed": _deepspeed,
    "fsdp": _fsdp,
    "warmup_ratio": _warmup_ratio,
    "dataset_num_proc": _workers,
}
"""By key of TrainingArguments."""
