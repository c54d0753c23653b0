"""Which ways to save memory go together: quantised weights, adapters, references."""

from sightline.config.model import LoraConfig, ModelConfig, ReferenceConfig


def fit_complaint(model: ModelConfig, lora: LoraConfig | None, reference: ReferenceConfig) -> str | None:
    """Why this combination means nothing, and the fix; None where it is fine."""
    quantised = model.quantize != "none"
    if quantised and lora is None:
        return (
            f"`model.quantize: {model.quantize}` stores weights in too few bits to be trained. Add a `lora` group, or "
            "leave `model.quantize` out."
        )
    if quantised and model.random_weights:
        return "`model.quantize` is for trained weights; `model.random_weights` draws new ones. Leave one of them out."
    if not model.double_quantize and model.quantize != "nf4":
        return f"`model.double_quantize` is for `model.quantize: nf4`; it is {model.quantize}. Leave one of them out."
    if not quantised and model.quantize_parts != ["language"]:
        return (
            "`model.quantize_parts` says whose layers are quantised, but `model.quantize` is none. Leave it out, or "
            "add `model.quantize: nf4` (or int8)."
        )
    if reference.path is not None and reference.type != "precomputed":
        return f"`reference.path` is for `reference.type: precomputed`; it is {reference.type}. Leave one of them out."
    if reference.type == "precomputed" and reference.update_every is not None:
        return "`reference.update_every` moves the reference, but log-probs on disk cannot move. Use `frozen-copy`."
    return None if lora is None else _adapter_complaint(model, lora, reference)


def _adapter_complaint(model: ModelConfig, lora: LoraConfig, reference: ReferenceConfig) -> str | None:
    if lora.init == "pissa" and model.quantize != "none":
        return (
            "`lora.init: pissa` starts from the singular values of the weights, which `model.quantize` leaves too "
            "coarse. Use `lora.init: default`, or do not quantise."
        )
    if lora.init == "pissa" and lora.adapter is not None:
        return "`lora.init` is for a new adapter, but `lora.adapter` names one to train further. Leave one of them out."
    if not (model.freeze_vision and model.freeze_projector):
        return (
            "`model.freeze_vision: false` and `model.freeze_projector: false` train whole weights, but the recipe "
            "trains an adapter. Adapt those parts with `lora.target_modules: [language, projector, vision]`, or leave "
            "`lora` out."
        )
    if lora.use_dora and reference.update_every is not None and reference.update_weight < 1:
        return (
            "`reference.update_weight` below 1 mixes dense weights, which does not hold for `lora.use_dora`. Use "
            "`reference.update_weight: 1`, or LoRA without DoRA."
        )
    return None
