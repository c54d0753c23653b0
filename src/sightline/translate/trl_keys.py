"""TRL's keys besides those of the objective and of TrainingArguments → keys of a recipe."""

from typing import Any

from sightline.translate.training_keys import TRAINING_RULES, missing, needless, streaming
from sightline.translate.translation import Rule, Translation

OFF = "off, as it is here"


def of_objective(*names: str) -> Rule:
    """A rule for a key that the objective was made of."""

    def rule(translation: Translation, value: Any) -> None:
        objective = translation.tree["objective"]
        found = [name for name in names if name in objective]
        if found:
            shown = objective[found[0]]
            translation.became.append((translation.current, f"objective.{found[0]}: {shown}"))
        elif value in (None, False, 0, 0.0, [], "reverse_kl"):
            translation.holds(OFF)
        else:
            translation.lacks(f"`objective.type: {objective['type']}` takes no such option")

    return rule


def _loss_type(translation: Translation, value: Any) -> None:
    lost = {old for old, _ in translation.missing}
    for loss in [value] if isinstance(value, str) else value:
        if f"loss_type: {loss}" not in lost:
            translation.became.append(
                (f"loss_type: {loss}", f"objective.type: {translation.tree['objective']['type']}")
            )


def _dtype(translation: Translation, value: Any) -> None:
    if value in (None, "auto"):
        translation.holds("auto: bfloat16 on a GPU that has it")
    else:
        translation.put("model.dtype", str(value).removeprefix("torch."))


def _attention(translation: Translation, value: Any) -> None:
    if value in ("sdpa", "eager", "flex_attention"):
        translation.put("model.attn_implementation", value)
    elif value:
        translation.lacks("flash attention takes no mask of the shared prefix; `auto` takes what is exact")
    else:
        translation.holds("auto")


def _peft(translation: Translation, value: Any) -> None:
    if value:
        translation.became.append((translation.current, "lora"))
    else:
        translation.holds("all weights are trained where there is no `lora`")


def _lora(name: str) -> Rule:
    """A field of the adapter; without `use_peft` TRL reads none of them."""

    def rule(translation: Translation, value: Any) -> None:
        if not translation.given.get("use_peft"):
            translation.holds("not read there without use_peft")
        elif value is None:
            translation.holds("the default")
        else:
            translation.put(f"lora.{name}", value)

    return rule


def _dropout(translation: Translation, value: Any) -> None:
    off = any(old == "lora_dropout" for old, _ in translation.needless)
    if off:
        translation.holds("switched off there by disable_dropout")
    else:
        _lora("dropout")(translation, value)  # type: ignore[operator]


def _targets(translation: Translation, value: Any) -> None:
    """Names as TRL takes them: there they land in the vision tower too."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    _lora("target_modules")(translation, value)  # type: ignore[operator]


def _bits(name: str) -> Rule:
    return lambda translation, value: translation.put("model.quantize", name) if value else translation.holds(OFF)


def _max_length(translation: Translation, value: Any) -> None:
    if value is None:
        translation.holds("no limit, as it is here")
    else:
        translation.put("data.max_length", value)
        translation.default("data.on_overlong", "truncate")


def _sync(translation: Translation, value: Any) -> None:
    if value:
        translation.put("reference.update_every", translation.given.get("ref_model_sync_steps", 512))
        translation.default("reference.update_weight", translation.given.get("ref_model_mixup_alpha", 0.6))
    else:
        translation.holds(OFF)


def _with_sync(translation: Translation, value: Any) -> None:
    if translation.given.get("sync_ref_model"):
        translation.became.append((translation.current, "reference"))
    else:
        translation.holds("not read there without sync_ref_model")


def _test_split(translation: Translation, value: Any) -> None:
    if translation.given.get("eval_strategy", "no") == "no":
        translation.holds("not read there without eval_strategy")
        return
    translation.default("data.eval_source", translation.given.get("dataset_name"))
    translation.put("data.eval_split", value)


def _precompute(translation: Translation, value: Any) -> None:
    if value:
        translation.put("reference.type", "precomputed")
    else:
        translation.holds(OFF)


def _truncation(translation: Translation, value: Any) -> None:
    if value == "keep_start":
        translation.holds("the end of the response is cut")
    else:
        translation.lacks("only the end of a response is cut: pictures are at its beginning")


RULES: dict[str, Rule] = {
    **TRAINING_RULES,
    "model_name_or_path": "model.name",
    "model_revision": "model.revision",
    "dtype": _dtype,
    "attn_implementation": _attention,
    "trust_remote_code": "model.trust_remote_code",
    "model_init_kwargs": missing("name what it sets: `model.dtype`, `model.attn_implementation`, `model.revision`"),
    "use_peft": _peft,
    "lora_r": _lora("r"),
    "lora_alpha": _lora("alpha"),
    "lora_dropout": _dropout,
    "lora_target_modules": _targets,
    "use_rslora": _lora("use_rslora"),
    "use_dora": _lora("use_dora"),
    "lora_task_type": needless("found from the model"),
    "lora_modules_to_save": missing("unfreeze parts with `model.freeze_vision` and `model.freeze_projector`"),
    "lora_target_parameters": missing("names of modules only"),
    "load_in_4bit": _bits("nf4"),
    "load_in_8bit": _bits("int8"),
    "bnb_4bit_quant_storage": missing("as bitsandbytes stores it"),
    "bnb_4bit_quant_type": lambda t, v: t.holds("nf4 is the one") if v == "nf4" else t.lacks("nf4 is the one here"),
    "use_bnb_nested_quant": needless("NF4's scales are quantised too"),
    "dataset_name": "data.source",
    "dataset_config": "data.subset",
    "dataset_train_split": "data.split",
    "dataset_test_split": _test_split,
    "dataset_streaming": streaming,
    "dataset_text_field": needless("the format of rows is recognised, see `sightline data check`"),
    "dataset_kwargs": missing("rows are read as they are"),
    "ignore_bias_buffers": needless("nothing of the kind is needed"),
    "loss_type": _loss_type,
    "loss_weights": of_objective("preference_weight", "parts"),
    "beta": of_objective("beta"),
    "ld_alpha": of_objective("ld_alpha"),
    "f_divergence_type": of_objective("divergence"),
    "f_alpha_divergence_coef": lambda t, v: (
        of_objective("divergence_alpha")(t, v)  # type: ignore[operator]
        if t.given.get("f_divergence_type", "").startswith("alpha")
        else t.holds("not read there without alpha_divergence")
    ),
    "label_smoothing": of_objective("label_smoothing"),
    "use_weighting": of_objective("wpo"),
    "rpo_alpha": of_objective("rpo_alpha"),
    "discopop_tau": of_objective("tau"),
    "desirable_weight": of_objective("desirable_weight"),
    "undesirable_weight": of_objective("undesirable_weight"),
    "disable_dropout": lambda t, v: t.holds("dropout is the adapter's alone, `lora.dropout`"),
    "reference_free": missing("take an objective without a reference: simpo, orpo, cpo"),
    "sync_ref_model": _sync,
    "ref_model_mixup_alpha": _with_sync,
    "ref_model_sync_steps": _with_sync,
    "precompute_ref_log_probs": _precompute,
    "precompute_ref_batch_size": missing("taken from `per_device_eval_batch_size`"),
    "max_length": _max_length,
    "max_prompt_length": missing("prompts are never cut: pictures are in them"),
    "truncation_mode": _truncation,
    "padding_free": needless("groups share rows by a token budget in any case"),
    "packing": needless("groups share rows by a token budget in any case"),
    "eval_packing": needless("as in training"),
    "packing_strategy": needless("groups share rows by a token budget in any case"),
    "pad_to_multiple_of": needless("the kernel's own"),
    "pad_token": missing("the tokenizer's own"),
    "eos_token": missing("what the chat template ends a turn with"),
    "chat_template_path": missing("the model's own template; save another with the model"),
    "assistant_only_loss": needless("assistant turns alone are targets, always"),
    "completion_only_loss": needless("responses alone are targets, always"),
    "shuffle_dataset": "shuffle",
    "router_aux_loss_coef": missing("the model's own coefficient"),
    "activation_offloading": missing("see `sightline plan` for what fits"),
    "use_liger_kernel": needless("the head already runs in chunks over responses"),
}
"""By key; those of the online trainers are in `trl_online_keys`."""
