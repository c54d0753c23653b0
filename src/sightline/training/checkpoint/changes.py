"""Which settings may change when a run is resumed: every field of a recipe is applied, free or refused.

`DECISIONS` has them all (a test walks over the recipe's fields), `exception` what depends on other settings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from sightline.config import Recipe
from sightline.config.online import TransformersSamplerConfig
from sightline.errors import RecipeError, shown
from sightline.recipe import Tree, tree_of


@dataclass(frozen=True)
class Applied:
    """Holds from the next step on, and is said.

    new_figures: evaluations before and after it cannot be compared, so that the best value so far is forgotten.
    new_round: completions sampled before must not be trained on after it: only between two rounds of sampling.
    """

    new_figures: bool = False
    new_round: bool = False


@dataclass(frozen=True)
class Free:
    """Nothing that is learned depends on it."""


@dataclass(frozen=True)
class Refused:
    """Cannot change in the middle of a run. reason: completes `x is 2 and was 1: …`."""

    reason: str


Decision = Applied | Free | Refused

BASE = Refused("the weights were trained with that model and mean nothing with another")
ADAPTER = Refused("the adapter in the checkpoint was made with it")
PARTS = Refused("the optimizer has no state for other weights")
ROWS = Refused("rows would be others or come in another order, some twice and some never")
HELD_OUT = Refused("held-out figures before and after would be of different rows")
LOSS = Refused("this would be another objective, with another optimum and another state")
REFERENCE = Refused("the policy would be held to another reference from here on")
STEP = Refused("the rows of a step would be others, and the place in the data with them")
ROUNDS = Refused("a round of completions, and the place among the prompts, follow from it")
OPTIMIZER = Refused("the state of one optimizer means nothing to another")

SCORED = Applied(new_figures=True)
SAMPLED = Applied(new_round=True)
JUDGED = Applied(new_figures=True, new_round=True)

DECISIONS: dict[str, Decision] = {
    **{f"model.{name}": BASE for name in ("name", "revision", "dtype", "random_weights")},
    **{f"model.{name}": BASE for name in ("quantize", "double_quantize", "quantize_parts")},
    **{f"model.{name}": PARTS for name in ("freeze_vision", "freeze_projector")},
    **{f"model.{name}": Applied() for name in ("attn_implementation", "family")},
    "model.trust_remote_code": Free(),
    "model.processor": SCORED,
    "lora": PARTS,
    **{f"lora.{name}": ADAPTER for name in ("r", "alpha", "target_modules", "use_rslora", "use_dora")},
    **{f"lora.{name}": ADAPTER for name in ("init", "adapter")},
    "lora.dropout": Applied(),
    **{
        f"data.{name}": ROWS
        for name in ("source", "subset", "split", "format", "columns", "ignore_columns", "system", "media_dir",
                     "registry", "names", "mixture", "streaming", "shuffle_buffer", "limit", "val_size",
                     "share_images", "seed", "scenes")
    },
    **{f"data.{name}": HELD_OUT for name in ("eval_source", "eval_split")},
    **{f"data.{name}": Applied() for name in ("allow_tokens", "allow_urls", "on_bad_row")},
    **{f"data.{name}": SCORED for name in ("max_length", "on_overlong")},
    **{f"data.{name}": Free() for name in ("cache_tokens", "cache_dir", "dataset_num_proc")},
    **{f"objective.{name}": LOSS for name in ("type", "function", "uses_reference", "parts", "running_shift")},
    **{
        f"objective.{name}": SCORED
        for name in ("ld_alpha", "wpo", "length_normalised", "rpo_alpha", "divergence", "divergence_alpha",
                     "label_smoothing", "tau", "penalty", "corrected_weight", "image_weight", "anchor_weight", "anchor",
                     "gamma", "sft_weight", "desirable_weight", "undesirable_weight", "preference_weight",
                     "quality_weight", "generation_weight")
    },
    **{
        f"objective.{name}": Applied()
        for name in ("kl_estimator", "kl_ratio_corrected", "epsilon", "epsilon_high", "max_ratio",
                     "temperature_positive", "temperature_negative")
    },
    **{f"objective.{name}": JUDGED for name in ("beta", "options")},
    **{f"objective.{name}": SAMPLED for name in ("scale_rewards", "overlong_buffer")},
    **{f"reference.{name}": REFERENCE for name in ("type", "update_weight", "model", "adapter", "quantize")},
    "reference.path": Free(),
    "reference.update_every": Applied(),
    **{f"sampler.{name}": ROUNDS for name in ("num_generations", "steps_per_generation", "num_iterations")},
    **{f"sampler.{name}": JUDGED for name in ("type", "max_completion_length", "stop", "function", "options")},
    **{
        f"sampler.{name}": SAMPLED
        for name in ("temperature", "top_p", "top_k", "min_p", "dynamic_sampling_rounds", "importance_sampling",
                     "importance_sampling_cap")
    },
    "sampler.max_logp_difference": Applied(),
    **{
        f"sampler.{name}": Free()
        for name in ("completions_steps", "batch_size", "mode", "url", "server_timeout", "weights",
                     "gpu_memory_utilization", "max_model_len", "sleep", "model_impl")
    },
    **{f"rewards.{name}": JUDGED for name in ("name", "weight", "completions", "options")},
    "rewards.timeout": Free(),
    **{f"pairs.{name}": SAMPLED for name in ("margin", "max_pairs", "keep_truncated")},
    **{f"pairs.{name}": ROWS for name in ("type", "prompts", "length_tolerance", "kept_share", "noise_step", "column")},
    "pairs.batch_size": Free(),
    **dict.fromkeys(("pairs", "rounds"), ROWS),
    **{f"evaluation.{name}": SCORED for name in ("data", "limit")},
    **{f"evaluation.{name}": Applied() for name in ("best", "patience", "limits")},
    **{f"evaluation.{name}": Free() for name in ("tasks", "every", "batch_size")},
    **{f"guard.{name}": Applied() for name in ("skip_steps", "on_collapse")},
    **{f"guard.{name}": Applied() for name in ("max_kl", "max_entropy_rise", "max_logp_fall")},
    **dict.fromkeys(("seed", "shuffle"), ROWS),
    **dict.fromkeys(("per_device_train_batch_size", "gradient_accumulation_steps"), STEP),
    "optim": OPTIMIZER,
    **dict.fromkeys(
        ("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
         "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "bf16"),
        Applied(),
    ),
    **dict.fromkeys(
        ("output_dir", "overwrite_output_dir", "resume", "report_to", "run_name", "logging_steps", "eval_steps",
         "eval_on_start", "save_steps", "save_total_limit", "per_device_eval_batch_size", "layout", "use_cpu",
         "gradient_checkpointing", "dataloader_num_workers", "nproc_per_node", "engine", "ddp_timeout"),
        Free(),
    ),
}  # fmt: skip
"""Field → what happens where it has changed. Of processes and engine the checkpoint itself knows what it needs."""

PATHS = ("model.name", "lora.adapter", "data.source", "data.media_dir", "data.registry", "data.eval_source")
PLATEAU = Refused("`reduce_lr_on_plateau` has a state of its own, which others do not have and which keeps its options")
SCHEDULE = ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps")


class Change(NamedTuple):
    """A setting that is another than the checkpoint's. name: as a user writes it. field: its key in `DECISIONS`."""

    name: str
    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.name}: {_written(self.old)} → {_written(self.new)}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What holds from now on. lines: one each, `learning_rate: 5e-06 → 1e-06 from step 120 on`."""

    lines: tuple[str, ...] = ()
    new_figures: bool = False


def judged(recipe: Recipe, by: Recipe, checkpoint: Path, step: int) -> Changes:
    """What a recipe asks otherwise than the one by which the checkpoint of `step` was trained.

    Raises `RecipeError` for what cannot change in the middle of a run.
    """
    before, now = tree_of(by), tree_of(recipe)
    decided = [(change, exception(change, before, now) or DECISIONS[change.field]) for change in changes(before, now)]
    refused = [f"`{c.name}` is {_written(c.new)} and was {_written(c.old)}: {d.reason}" for c, d in decided
               if isinstance(d, Refused)]  # fmt: skip
    applied = [(change, decision) for change, decision in decided if isinstance(decision, Applied)]
    refused += in_mid_round([change for change, decision in applied if decision.new_round], before, step)
    if refused:
        weights = "lora.adapter" if before.get("lora") else "model.name"
        moved = any(change.field in PATHS for change, decision in decided if isinstance(decision, Refused))
        link = " (what has only moved can be linked to its old place)" if moved else ""
        raise RecipeError(
            f"{checkpoint} cannot go on with other settings: {'; '.join(refused)}. Set it back{link}, or start a new "
            f"run from its weights: `{weights}: {checkpoint}`, another `output_dir`, and no `resume`."
        )
    return Changes(
        lines=tuple(f"{change} from step {step + 1} on" for change, _ in applied),
        new_figures=any(decision.new_figures for _, decision in applied),
    )


def changes(before: Tree, now: Tree) -> list[Change]:
    """The fields whose values differ, by the whole trees of two recipes."""
    old, new = (dict(_flat(_with_sampler(tree))) for tree in (before, now))
    kinds = {"objective": "objective.type", "sampler": "sampler.type", "lora": "lora"}
    retyped = [group for group, kind in kinds.items() if old.get((kind, kind)) != new.get((kind, kind))]
    found = []
    for name, field in dict.fromkeys([*old, *new]):
        was, value = old.get((name, field)), new.get((name, field))
        if field.partition(".")[0] in retyped and field not in kinds.values():
            continue  # the group itself, or its type, says it
        if was != value and not (field in PATHS and _same_place(was, value)):
            found.append(Change(name, field, was, value))
    return found


def exception(change: Change, before: Tree, now: Tree) -> Decision | None:
    """What happens to a change for which the table alone does not decide."""
    name, old, new = change.field, before.get("objective", {}), now["objective"]
    if name in ("per_device_train_batch_size", "gradient_accumulation_steps") and _rows(before) == _rows(now):
        return Free()  # cut otherwise, the same step
    if name in SCHEDULE and "reduce_lr_on_plateau" in (before["lr_scheduler_type"], now["lr_scheduler_type"]):
        return PLATEAU
    if name == "reference.update_every" and None in (change.old, change.new):
        return REFERENCE
    if name == "objective.beta" and True in (old.get("running_shift"), new.get("running_shift")):
        return Refused("the running shift is a mean of rewards, which are β times a log-ratio")
    if name == "objective.parts" and old["parts"].keys() == new["parts"].keys() and "bco" not in "".join(new["parts"]):
        return SCORED
    return None


def in_mid_round(asked: list[Change], before: Tree, step: int) -> list[str]:
    """Why changes have to wait for the next round of sampling, where the checkpoint is in the middle of one."""
    sampler = before.get("sampler") or {}
    steps = sampler.get("steps_per_generation", 1) * sampler.get("num_iterations", 1)
    if not asked or step % steps == 0:
        return []
    changed = ", ".join(f"`{change}`" for change in asked)
    return [
        f"{changed}: step {step} is in the middle of a round of completions, which were sampled and judged as it was; "
        f"it can change from a checkpoint whose step is a multiple of {steps}"
    ]


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    """((name, field), value): of groups each field, of rewards each one's fields under its name."""
    for key, value in tree.items():
        name = f"{above}{key}"
        if name == "rewards":
            for reward in value:
                yield (f"rewards.{reward['name']}", "rewards.name"), "given"
                for option in reward.keys() - {"name"}:
                    yield (f"rewards.{reward['name']}.{option}", f"rewards.{option}"), reward[option]
        elif isinstance(value, Mapping) and any(field.startswith(f"{name}.") for field in DECISIONS):
            if name in DECISIONS:
                yield (name, name), "given"
            yield from _flat(value, f"{name}.")
        else:
            yield (name, name), value


def _with_sampler(tree: Tree) -> Tree:
    """The tree with the sampler that an online run has where it names none."""
    if tree.get("sampler") is not None:
        return tree
    default = TransformersSamplerConfig()  # pyright: ignore[reportCallIssue]
    return {**tree, "sampler": TypeAdapter(TransformersSamplerConfig).dump_python(default, mode="json")}


def _rows(tree: Tree) -> int:
    return tree["per_device_train_batch_size"] * tree["gradient_accumulation_steps"]


def _same_place(old: Any, new: Any) -> bool:
    return None not in (old, new) and Path(old).expanduser().resolve() == Path(new).expanduser().resolve()


def _written(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else shown(value)
