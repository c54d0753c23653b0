"""Keys of transformers' TrainingArguments, which TRL's and LLaMA-Factory's configs share."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sightline.config.figures import held_out_figures
from sightline.config.objective import ObjectiveConfig
from sightline.config.schedule import OPTIMIZERS, OPTIMIZERS_NOT_HERE, SCHEDULES, SCHEDULES_NOT_HERE, WITHOUT_WARMUP
from sightline.errors import RecipeError
from sightline.translate.tables import OFF, rules_of
from sightline.translate.translation import Rule, Translation

TRACKERS = ("tensorboard", "trackio", "wandb")


def eval_strategy(given: dict[str, Any]) -> str:
    """no, steps or epoch; YAML reads a bare `no` as false."""
    return str(given.get("eval_strategy", given.get("evaluation_strategy")) or "no")


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


def _optim(translation: Translation, value: Any) -> None:
    if value in OPTIMIZERS:
        translation.put("optim", value)
    else:
        why = OPTIMIZERS_NOT_HERE.get(value, "no optimizer of transformers'")
        translation.lacks(f"{why}; adamw_torch stands in its place")


def _schedule(translation: Translation, value: Any) -> None:
    if value in SCHEDULES:
        translation.put("lr_scheduler_type", value)
    else:
        why = SCHEDULES_NOT_HERE.get(value, "no schedule of transformers'")
        translation.lacks(f"{why}; linear stands in its place")


def _warmup(translation: Translation, value: Any) -> None:
    """warmup_steps, or warmup_ratio where no steps are given."""
    kind = translation.given.get("lr_scheduler_type")
    is_ratio = translation.current.startswith("warmup_ratio")
    if kind in WITHOUT_WARMUP:
        translation.holds(f"{kind} has no warm-up, there as here")
    elif is_ratio and float(translation.given.get("warmup_steps") or 0) > 0:
        translation.holds("warmup_steps is given too and wins, as in transformers")
    elif not is_ratio and not float(value or 0) and float(translation.given.get("warmup_ratio") or 0) > 0:
        translation.holds("warmup_ratio is given and holds")
    else:
        translation.put("warmup_steps", float(value or 0) if is_ratio else value or 0)


def _save(translation: Translation, value: Any) -> None:
    strategy = str(translation.given.get("save_strategy", "steps") or "no")
    if strategy != "steps":
        translation.holds(f"save_strategy is {strategy}")
    elif float(value) < 1:
        translation.lacks("a share of all steps; give their number as `save_steps`")
    else:
        translation.put("save_steps", int(value))


def _eval(translation: Translation, value: Any) -> None:
    strategy = eval_strategy(translation.given)
    if strategy != "steps":
        translation.holds(f"eval_strategy is {strategy}")
    elif value is not None and float(value) < 1:
        translation.lacks("a share of all steps; give their number as `eval_steps`")
    elif value is None:
        translation.holds("the default")
    else:
        translation.put("eval_steps", int(value))


def _strategy(what: str) -> Rule:
    def rule(translation: Translation, value: Any) -> None:
        if value == "steps":
            translation.holds(f"given by `{what}_steps`")
        elif value in ("no", False, None):
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
    kind = {key: option for key, option in translation.tree["objective"].items() if key in ("type", "parts")}
    known = held_out_figures(TypeAdapter(ObjectiveConfig).validate_python(kind))
    if not value:
        translation.holds(OFF)
    elif name not in known:
        translation.lacks(f"by {name}; `evaluation.best` takes {', '.join(known)}, or scores of benchmarks")
    elif eval_strategy(given) != "steps":
        translation.lacks("held-out rows are evaluated at the end only; give `eval_steps`, and `evaluation.best`")
    else:
        translation.put("evaluation.best", name)


def _deepspeed(translation: Translation, value: Any) -> None:
    stage, offloads = _zero_stage(value)
    if stage not in (0, 1, 2, 3):
        translation.lacks("`engine: zero1`, `zero2` or `zero3`, after its `zero_optimization.stage`")
        return
    if stage == 0:
        translation.holds("stage 0 spreads nothing")
    else:
        translation.put("engine", f"zero{stage}")
    if offloads:
        translation.lacks("nothing is offloaded; `sightline plan` says what fits")


def _zero_stage(value: Any) -> tuple[Any, bool]:
    """Stage and whether anything is offloaded: from the configuration where it is there, else by the file's name."""
    if isinstance(value, str) and is_file(value):
        try:
            value = json.loads(Path(value).read_bytes()[: 2**20].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"deepspeed: {value} is no JSON ({error}).") from None
    if isinstance(value, dict):
        zero = value.get("zero_optimization", {})
        zero = zero if isinstance(zero, dict) else {}
        return zero.get("stage", 0), any("offload" in name for name in zero)
    found = re.search(r"(?:z|zero|stage)[-_]?([0-3])", Path(str(value)).stem)
    return (int(found[1]) if found else None), "offload" in Path(str(value)).stem


def is_file(text: str) -> bool:
    """Whether a text is the name of a file: command lines and names may be too long to be one."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _fsdp(translation: Translation, value: Any) -> None:
    if value:
        translation.put("engine", "fsdp2")
    else:
        translation.holds(OFF)


def streaming(translation: Translation, value: Any) -> None:
    """Both count steps of a stream, whose rows nobody counts."""
    if not value:
        translation.holds(OFF)
    elif int(translation.given.get("max_steps") or -1) > 0:
        translation.put("data.streaming", True)
    else:
        translation.lacks("a stream needs `max_steps`")


TRAINING_RULES: dict[str, Rule] = {
    **rules_of("training"),
    "optim": _optim,
    "lr_scheduler_type": _schedule,
    "report_to": _report_to,
    "save_steps": _save,
    "eval_steps": _eval,
    "save_strategy": _strategy("save"),
    "eval_strategy": _strategy("eval"),
    "evaluation_strategy": _strategy("eval"),
    "resume_from_checkpoint": _resume,
    "load_best_model_at_end": _best,
    "deepspeed": _deepspeed,
    "fsdp": _fsdp,
    "warmup_steps": _warmup,
    "warmup_ratio": _warmup,
    "dataset_num_proc": lambda t, value: t.put("data.dataset_num_proc", int(value or 1)),
}
"""By key of TrainingArguments."""
