"""TRL's keys that need more than a name: model, adapter, data, reference; those of the objective are in
`trl_objective`."""

from typing import Any

from sightline.translate.tables import OFF, of_adapter, of_objective, rules_of
from sightline.translate.training_keys import TRAINING_RULES, eval_strategy, streaming
from sightline.translate.translation import Rule, Translation


def _loss_type(translation: Translation, value: Any) -> None:
    lost = {old for old, _ in translation.missing}
    for loss in [value] if isinstance(value, str) else value:
        if f"loss_type: {loss}" not in lost:
            kind = translation.tree["objective"]["type"]
            translation.became.append((f"loss_type: {loss}", f"objective.type: {kind}"))


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
        translation.note("lora")
    else:
        translation.holds("all weights are trained where there is no `lora`")


def _dropout(translation: Translation, value: Any) -> None:
    off = any(old == "lora_dropout" for old, _ in translation.redundant)
    if off:
        translation.holds("switched off there by disable_dropout")
    else:
        of_adapter("dropout")(translation, value)  # type: ignore[operator]


def _targets(translation: Translation, value: Any) -> None:
    """Names as TRL takes them: there they land in the vision tower too."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    of_adapter("target_modules")(translation, value)  # type: ignore[operator]


def _bits(name: str) -> Rule:
    return lambda translation, value: translation.put("model.quantize", name) if value else translation.holds(OFF)


def _nf4(translation: Translation, value: Any) -> None:
    (translation.holds if value == "nf4" else translation.lacks)("nf4 is the one")


def _alpha(translation: Translation, value: Any) -> None:
    if str(translation.given.get("f_divergence_type", "")).startswith("alpha"):
        of_objective("divergence_alpha")(translation, value)  # type: ignore[operator]
    else:
        translation.holds("not read there without alpha_divergence")


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
        translation.note("reference")
    else:
        translation.holds("not read there without sync_ref_model")


def _test_split(translation: Translation, value: Any) -> None:
    if eval_strategy(translation.given) == "no":
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
        translation.lacks("only the end of a response is cut: images are at its beginning")


RULES: dict[str, Rule] = {
    **TRAINING_RULES,
    **rules_of("trl"),
    "dtype": _dtype,
    "attn_implementation": _attention,
    "use_peft": _peft,
    "lora_dropout": _dropout,
    "lora_target_modules": _targets,
    "load_in_4bit": _bits("nf4"),
    "load_in_8bit": _bits("int8"),
    "bnb_4bit_quant_type": _nf4,
    "dataset_test_split": _test_split,
    "dataset_streaming": streaming,
    "loss_type": _loss_type,
    "f_alpha_divergence_coef": _alpha,
    "disable_dropout": lambda t, v: t.holds("dropout is the adapter's alone, `lora.dropout`"),
    "sync_ref_model": _sync,
    "ref_model_mixup_alpha": _with_sync,
    "ref_model_sync_steps": _with_sync,
    "precompute_ref_log_probs": _precompute,
    "max_length": _max_length,
    "truncation_mode": _truncation,
}
"""By key; those of the online trainers are in `trl_online_keys`."""
