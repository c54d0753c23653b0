"""LLaMA-Factory's training YAML → a recipe."""

import json
from pathlib import Path
from typing import Any

from sightline.config.plain_yaml import MAX_BYTES, read_yaml
from sightline.errors import RecipeError, shown
from sightline.translate.tables import OFF, rules_of
from sightline.translate.training_keys import TRAINING_RULES, is_file, streaming
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

MAX_PIXELS = 768 * 768
"""`image_max_pixels` where it is left out."""
NOT_LANGUAGE = "vis|vit|multi_modal_projector|connector|merger|aligner"
"""What names of layers hold that belong to a tower or a projector."""


def from_llamafactory(path: str | Path) -> Translation:
    """Translate a YAML file. Raises `RecipeError` for a file that is none of its, or a stage not trained here."""
    given, _ = read_yaml(Path(path))
    given = {str(name): value for name, value in given.items()}
    if not given.keys() & RULES.keys():
        raise RecipeError(f"{shown(path)} has no key of LLaMA-Factory's in it, so nothing could be translated.")
    stage = given.get("stage", "sft")
    if stage not in STAGES:
        raise RecipeError(
            f"{shown(path)}: `stage: {shown(stage)}` is not trained here. There are {', '.join(STAGES)}; for answers "
            "with rewards write a recipe with `objective.type: grpo` (docs/online.md)."
        )
    translation = Translation(source=f"LLaMA-Factory's {Path(path).name}", given=given, folder=Path(path).parent)
    with translation.reading():
        _objective(translation, stage)
    if adapts(translation):
        translation.default("lora.r", 8)
        translation.default("lora.alpha", None)
    translation.apply(RULES)
    for key, value in DEFAULTS.items():
        if not translation.has(key):
            translation.default(key, value)
    if "image_max_pixels" not in given:
        translation.current = f"image_max_pixels (left out: {MAX_PIXELS} there)"
        _pixels("max_pixels")(translation, MAX_PIXELS)  # type: ignore[operator]
    if adapts(translation) and not translation.has("lora.target_modules"):
        translation.current = "lora_target (left out: all there)"
        _lora_target(translation, "all")
    if translation.tree.get("lora", {}).get("alpha", 0) is None:
        del translation.tree["lora"]["alpha"]  # twice the rank, there and here
    return translation


def adapts(translation: Translation) -> bool:
    """Whether an adapter is trained, and the model's own weights are not."""
    return translation.given.get("finetuning_type", "lora") == "lora"


def _objective(translation: Translation, stage: str) -> None:
    """The objective from all keys that make it up; each is noted where its rule is applied."""
    given = translation.given
    if stage == "sft":
        translation.default("objective", {"type": "dft" if given.get("use_dft_loss") else "sft"})
        return
    beta, loss = given.get("pref_beta", 0.1), given.get("pref_loss", "sigmoid")
    if stage == "kto":
        translation.default("objective", {"type": "kto", "beta": beta})
        for key, name in (("kto_chosen_weight", "desirable_weight"), ("kto_rejected_weight", "undesirable_weight")):
            if key in given:
                translation.default(f"objective.{name}", given[key])
        return
    objective: dict[str, Any] = {"type": LOSSES.get(loss, "dpo"), "beta": beta}
    bco, ftx = float(given.get("pref_bco_weight") or 0), float(given.get("pref_ftx") or 0)
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
    if float(given.get("dpo_label_smoothing") or 0) and objective["type"] == "dpo":
        objective["label_smoothing"] = given["dpo_label_smoothing"]
    if given.get("ld_alpha") is not None and objective["type"] in ("dpo", "hinge", "ipo"):
        objective["ld_alpha"] = given["ld_alpha"]
    translation.default("objective", objective)


def _stage(translation: Translation, value: Any) -> None:
    translation.note(f"objective.type: {translation.tree['objective']['type']}")


def _pref_loss(translation: Translation, value: Any) -> None:
    if value in LOSSES:
        translation.note(f"objective.type: {translation.tree['objective']['type']}")
    else:
        translation.lacks(f"no such loss over pairs here; dpo stands in its place. Known: {', '.join(LOSSES)}")


def _dft(translation: Translation, value: Any) -> None:
    if translation.tree["objective"]["type"] == "dft":
        translation.note("objective.type: dft")
    elif value:
        translation.lacks("of stage sft alone")
    else:
        translation.holds(OFF)


def _finetuning_type(translation: Translation, value: Any) -> None:
    match value:
        case "lora":
            translation.note("lora")
        case "full":
            translation.holds("all weights are trained where there is no `lora`")
        case _:
            translation.lacks("not here; all unfrozen weights are trained")


def _lora_target(translation: Translation, value: Any) -> None:
    """`all` are the linear layers of what is not frozen. Of names those in frozen parts do not count there."""
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value)
    frozen = {key: translation.given.get(key, True) is not False for key in FREEZES}
    if names == ["all"]:
        parts = ["language", *(part for key, part in FREEZES.items() if not frozen[key])]
        translation.put("lora.target_modules", parts[0] if len(parts) == 1 else parts)
    elif all(frozen.values()):
        layers = "|".join(str(name).replace(".", r"\.") for name in names)
        translation.put("lora.target_modules", rf"(?!.*(?:{NOT_LANGUAGE})).*\.(?:{layers})")
    else:
        translation.put("lora.target_modules", names)


FREEZES = {"freeze_vision_tower": "vision", "freeze_multi_modal_projector": "projector"}
"""Both on where they are left out."""


def _freeze(field: str) -> Rule:
    def rule(translation: Translation, value: Any) -> None:
        if adapts(translation):
            translation.holds("said by lora.target_modules")
        else:
            translation.put(field, value)

    return rule


def _dataset(translation: Translation, value: Any) -> None:
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value)
    translation.default("data.registry", str(_registry(translation)))
    translation.put("data.names", names)


def _registry(translation: Translation) -> Path:
    return Path(str(translation.given.get("dataset_dir", "data"))) / "dataset_info.json"


def _eval_dataset(translation: Translation, value: Any) -> None:
    """The file of one set, where the registry is at hand and says it."""
    names = [one.strip() for one in value.split(",")] if isinstance(value, str) else list(value or [])
    registry = _registry(translation)
    entry: Any = {}
    if len(names) == 1 and is_file(str(registry)):
        try:
            entry = json.loads(registry.read_bytes()[:MAX_BYTES].decode("utf-8-sig")).get(names[0], {})
        except (ValueError, AttributeError, RecursionError):
            entry = {}
    file = entry.get("file_name") if isinstance(entry, dict) else None
    if not names:
        translation.holds("none")
    elif isinstance(file, str):
        translation.put("data.eval_source", str(registry.parent / file))
    else:
        translation.lacks("name its file as `data.eval_source`; the registry is read for training rows")


def _mix(translation: Translation, value: Any) -> None:
    if value == "concat":
        translation.holds("all rows of all sets, shuffled")
    else:
        translation.lacks("sets are joined and shuffled; give each a `weight` in `data.mixture`")


def _cutoff(translation: Translation, value: Any) -> None:
    translation.default("data.on_overlong", "truncate")
    translation.put("data.max_length", int(value))


def _max_samples(translation: Translation, value: Any) -> None:
    names = translation.given.get("dataset", "")
    several = "," in names if isinstance(names, str) else len(names) > 1
    if value is None:
        translation.holds(OFF)
    elif several:
        translation.lacks("there it limits every data set by itself; give `num_samples` in dataset_info.json")
    else:
        translation.put("data.limit", int(value))


def _pixels(name: str) -> Rule:
    def rule(translation: Translation, value: Any) -> None:
        said = (translation.given.get("model_name_or_path", ""), translation.given.get("template", ""))
        if any("qwen" in str(one).lower() for one in said):
            translation.put(f"model.processor.{name}", int(value))
        else:
            translation.lacks(
                "there it resizes images before the processor does; here the processor's own options say how large "
                "they are, for instance `model.processor.longest_edge`"
            )

    return rule


def _quantisation(translation: Translation, value: Any) -> None:
    if value in (4, "4"):
        translation.put("model.quantize", "nf4")
    elif value in (8, "8"):
        translation.put("model.quantize", "int8")
    elif value is None:
        translation.holds(OFF)
    else:
        translation.lacks("4 and 8 bits are here")


def _method(translation: Translation, value: Any) -> None:
    if not translation.given.get("quantization_bit"):
        translation.holds("not read there without quantization_bit")
    elif value in ("bnb", "bitsandbytes"):
        translation.holds("bitsandbytes is the one")
    else:
        translation.lacks("bitsandbytes stands in its place")


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
        translation.holds(OFF)


def _buffer_size(translation: Translation, value: Any) -> None:
    if translation.given.get("streaming"):
        translation.put("data.shuffle_buffer", int(value))
    else:
        translation.holds("of streams alone")


RULES: dict[str, Rule] = {
    **TRAINING_RULES,
    **rules_of("llamafactory"),
    "image_max_pixels": _pixels("max_pixels"),
    "image_min_pixels": _pixels("min_pixels"),
    "quantization_bit": _quantisation,
    "quantization_method": _method,
    "quantization_type": lambda t, v: (t.holds if v == "nf4" else t.lacks)("nf4 is the one"),
    "flash_attn": _flash_attn,
    "freeze_vision_tower": _freeze("model.freeze_vision"),
    "freeze_multi_modal_projector": _freeze("model.freeze_projector"),
    "stage": _stage,
    "finetuning_type": _finetuning_type,
    "lora_target": _lora_target,
    "pissa_init": lambda t, value: t.put("lora.init", "pissa") if value else t.holds(OFF),
    "pref_loss": _pref_loss,
    "use_dft_loss": _dft,
    "dataset": _dataset,
    "dataset_dir": lambda t, value: t.note(f"data.registry: {_registry(t)}"),
    "eval_dataset": _eval_dataset,
    "mix_strategy": _mix,
    "cutoff_len": _cutoff,
    "max_samples": _max_samples,
    "streaming": streaming,
    "buffer_size": _buffer_size,
    "pure_bf16": _pure_bf16,
    "disable_shuffling": lambda t, value: t.put("shuffle", not value),
    "disable_gradient_checkpointing": lambda t, value: t.put("gradient_checkpointing", not value),
}
"""By key of LLaMA-Factory's YAML."""
