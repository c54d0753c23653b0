"""LLaMA-Factory's training YAML → a recipe."""

from pathlib import Path
from typing import Any

from sightline.config.plain_yaml import read_yaml
from sightline.errors import RecipeError
from sightline.translate.training_keys import TRAINING_RULES, missing, needless, streaming
from sightline.translate.translation import Rule, Translation

STAGES = ("sft", "dpo", "kto")
LOSSES = {"sigmoid": "dpo", "hinge": "hinge", "ipo": "ipo", "orpo": "orpo", "simpo": "simpo"}
"""`pref_loss` → `objective.type`."""

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-5,
    "gradient_checkpointing": True,
    "data.max_length": 2048,
    "data.on_overlong": "truncate",
    "logging_steps": 10,
}
"""What a key that the YAML leaves out means there, where it means something else here."""


def from_llamafactory(path: str | Path) -> Translation:
    """Translate a YAML file. Raises `RecipeError` for a file that is none, or a stage that is not trained here."""
    given, _ = read_yaml(Path(path))
    stage = given.get("stage", "sft")
    if stage not in STAGES:
        raise RecipeError(
            f"{path}: `stage: {stage}` is not trained here. There are {', '.join(STAGES)}; for answers with rewards "
            "write a recipe with `objective.type: grpo` (docs/online.md)."
        )
    translation = Translation(source=f"LLaMA-Factory's {Path(path).name}", given=given)
    _objective(translation, stage)
    if given.get("finetuning_type", "lora") == "lora":
        translation.default("lora.r", 8)
        translation.default("lora.alpha", None)
    translation.apply(RULES)
    for key, value in DEFAULTS.items():
        if not translation.has(key):
            translation.default(key, value)
    if translation.tree.get("lora", {}).get("alpha", 0) is None:
        del translation.tree["lora"]["alpha"]  # twice the rank, there and here
    return translation


def _objective(translation: Translation, stage: str) -> None:
    """The objective from all keys that make it up; each is noted where its rule is applied."""
    given = translation.given
    if stage != "dpo":
        kto = {"type": "kto", "beta": given.get("pref_beta", 0.1)}
        sft = {"type": "dft" if given.get("use_dft_loss") else "sft"}
        translation.default("objective", kto if stage == "kto" else sft)
        return
    beta, loss = given.get("pref_beta", 0.1), given.get("pref_loss", "sigmoid")
    objective: dict[str, Any] = {"type": LOSSES.get(loss, "dpo"), "beta": beta}
    bco, ftx = float(given.get("pref_bco_weight", 0)), float(given.get("pref_ftx", 0))
    if bco and loss == "sigmoid":
        # its MPO: (dpo + w·bco) / (1 + w) + ftx·nll
        objective = {
            "type": "mpo",
            "beta": beta,
            "preference_weight": 1 / (1 + bco),
            "quality_weight": bco / (1 + bco),
            "generation_weight": ftx,
            "running_shift": True,
        }
    elif ftx and objective["type"] in ("dpo", "hinge", "ipo"):
        objective["rpo_alpha"] = ftx
    if objective["type"] == "simpo":
        objective["gamma"] = given.get("simpo_gamma", 0.5)
    if float(given.get("dpo_label_smoothing", 0)) and objective["type"] == "dpo":
        objective["label_smoothing"] = given["dpo_label_smoothing"]
    if given.get("ld_alpha") is not None and objective["type"] in ("dpo", "hinge", "ipo"):
        objective["ld_alpha"] = given["ld_alpha"]
    translation.default("objective", objective)


def _made(*names: str) -> Rule:
    """A rule for a key that `_objective` has read: note what it is part of, or that nothing here takes it."""

    def rule(translation: Translation, value: Any) -> None:
        objective = translation.tree["objective"]
        found = [name for name in names if name in objective or objective["type"] == name]
        if found:
            shown = objective.get(found[0], "")
            translation.became.append((translation.current, f"objective.{found[0]}: {shown}".rstrip(": ")))
        elif not value:
            translation.holds("off, as it is here")
        else:
            translation.lacks(f"`objective.type: {objective['type']}` has no such part")

    return rule


def _stage(translation: Translation, value: Any) -> None:
    translation.became.append((translation.current, f"objective.type: {translation.tree['objective']['type']}"))


def _pref_loss(translation: Translation, value: Any) -> None:
    if value in LOSSES:
        translation.became.append((translation.current, f"objective.type: {translation.tree['objective']['type']}"))
    else:
        translation.lacks(f"no such loss over pairs here; dpo stands in its place. Known: {', '.join(LOSSES)}")


def _finetuning_type(translation: Translation, value: Any) -> None:
    match value:
        case "lora":
            translation.became.append((translation.current, "lora"))
        case "full":
            translation.holds("all weights are trained where there is no `lora`")
        case _:
            translation.lacks("not here; all unfrozen weights are trained")


def _lora_target(translation: Translation, value: Any) -> None:
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value)
    if names == ["all"]:
        everywhere = translation.given.get("freeze_vision_tower") is False
        translation.put("lora.target_modules", "all-linear" if everywhere else "language")
    else:
        translation.put("lora.target_modules", names)


def _dataset(translation: Translation, value: Any) -> None:
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value)
    folder = Path(str(translation.given.get("dataset_dir", "data")))
    translation.default("data.registry", str(folder / "dataset_info.json"))
    translation.put("data.names", names)


def _dataset_dir(translation: Translation, value: Any) -> None:
    translation.became.append((translation.current, f"data.registry: {Path(str(value)) / 'dataset_info.json'}"))


def _cutoff(translation: Translation, value: Any) -> None:
    translation.default("data.on_overlong", "truncate")
    translation.put("data.max_length", int(value))


def _max_samples(translation: Translation, value: Any) -> None:
    names = translation.given.get("dataset", "")
    several = "," in names if isinstance(names, str) else len(names) > 1
    if several:
        translation.lacks("there it limits every data set by itself; give `num_samples` in dataset_info.json")
    else:
        translation.put("data.limit", int(value))


def _pixels(name: str) -> Rule:
    def rule(translation: Translation, value: Any) -> None:
        if "qwen" in str(translation.given.get("model_name_or_path", "")).lower():
            translation.put(f"model.processor.{name}", int(value))
        else:
            translation.lacks(
                "there it resizes pictures before the processor does; here the processor's own options say how large "
                "they are, for instance `model.processor.longest_edge`"
            )

    return rule


def _quantisation(translation: Translation, value: Any) -> None:
    if value in (4, "4"):
        translation.put("model.quantize", "nf4")
    elif value in (8, "8"):
        translation.put("model.quantize", "int8")
    else:
        translation.lacks("4 and 8 bits are here")


def _flash_attn(translation: Translation, value: Any) -> None:
    names = {"auto": "auto", "sdpa": "sdpa", "disabled": "eager"}
    if value in names:
        translation.put("model.attn_implementation", names[value])
    else:
        translation.lacks("flash attention takes no mask of the shared prefix; `auto` takes what is exact")


def _pure_bf16(translation: Translation, value: Any) -> None:
    if value:
        translation.lacks("trained weights are float32 under autocast: in bfloat16 small updates are lost")
        translation.default("bf16", True)
    else:
        translation.holds("off, as it is here")


def _buffer_size(translation: Translation, value: Any) -> None:
    if translation.given.get("streaming"):
        translation.put("data.shuffle_buffer", int(value))
    else:
        translation.holds("of streams alone")


RULES: dict[str, Rule] = {
    **TRAINING_RULES,
    "model_name_or_path": "model.name",
    "model_revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
    "adapter_name_or_path": "lora.adapter",
    "image_max_pixels": _pixels("max_pixels"),
    "image_min_pixels": _pixels("min_pixels"),
    "image_do_pan_and_scan": "model.processor.do_pan_and_scan",
    "crop_to_patches": "model.processor.crop_to_patches",
    "quantization_bit": _quantisation,
    "flash_attn": _flash_attn,
    "freeze_vision_tower": "model.freeze_vision",
    "freeze_multi_modal_projector": "model.freeze_projector",
    "stage": _stage,
    "finetuning_type": _finetuning_type,
    "lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target": _lora_target,
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
    "pissa_init": lambda t, value: t.put("lora.init", "pissa") if value else t.holds("off, as it is here"),
    "pref_beta": _made("beta"),
    "pref_loss": _pref_loss,
    "pref_ftx": _made("generation_weight", "rpo_alpha"),
    "pref_bco_weight": _made("quality_weight"),
    "simpo_gamma": _made("gamma"),
    "dpo_label_smoothing": _made("label_smoothing"),
    "ld_alpha": _made("ld_alpha"),
    "kto_chosen_weight": "objective.desirable_weight",
    "kto_rejected_weight": "objective.undesirable_weight",
    "use_dft_loss": _made("dft"),
    "ref_model": missing("the reference is the model that training starts from"),
    "dataset": _dataset,
    "dataset_dir": _dataset_dir,
    "media_dir": "data.media_dir",
    "eval_dataset": missing("name its file as `data.eval_source`; the registry is read for training rows"),
    "template": needless("the model's own chat template"),
    "default_system": "data.system",
    "cutoff_len": _cutoff,
    "max_samples": _max_samples,
    "preprocessing_num_workers": "data.dataset_num_proc",
    "overwrite_cache": needless("the cache is keyed by rows, processor and recipe, so that it is never stale"),
    "val_size": "data.val_size",
    "streaming": streaming,
    "buffer_size": _buffer_size,
    "packing": needless("groups share rows by a token budget in any case"),
    "neat_packing": needless("groups never see each other"),
    "plot_loss": needless("curves, raw and smoothed, are drawn at the end of every run"),
    "pure_bf16": _pure_bf16,
    "disable_shuffling": lambda t, value: t.put("shuffle", not value),
    "disable_gradient_checkpointing": lambda t, value: t.put("gradient_checkpointing", not value),
    "train_on_prompt": missing("only responses are targets"),
    "mask_history": missing("every assistant turn behind the last picture is a target"),
    "video_max_pixels": missing("pictures only"),
    "video_min_pixels": missing("pictures only"),
    "video_fps": missing("pictures only"),
    "video_maxlen": missing("pictures only"),
    "enable_liger_kernel": needless("the head already runs in chunks"),
    "use_unsloth": missing("an engine of its own"),
    "lora_target_parameters": missing("names of modules only"),
    "additional_target": missing("unfreeze parts with `model.freeze_vision` and `model.freeze_projector`"),
    "loraplus_lr_ratio": missing("one learning rate"),
}
"""By key of LLaMA-Factory's YAML."""
