"""TRL's loss keys → `objective`. They work together, so they are read in one place; their rules only note them."""

from typing import Any

from sightline.translate.translation import Translation

PAIRS = ("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
         "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm")  # fmt: skip
MPO = ("sigmoid", "bco_pair", "sft")
DIVERGENCES = {"reverse_kl": "reverse_kl", "forward_kl": "forward_kl", "js_divergence": "js", "js": "js",
               "alpha_divergence": "alpha", "alpha": "alpha"}  # fmt: skip
SMOOTHED = ("dpo", "robust", "exo_pair", "aot", "aot_unpaired")
MARGINS = ("dpo", "robust", "hinge", "ipo", "exo_pair", "discopop", "sigmoid_norm")
SAMPLED = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo")
SCALES = {True: "group", False: "none", "group": "group", "batch": "batch", "none": "none"}


def objective_of(translation: Translation, method: str) -> None:
    """Write `objective` into the translation."""
    match method:
        case "sft":
            kind = "dft" if translation.given.get("loss_type") == "dft" else "sft"
            translation.default("objective", {"type": kind})
        case "kto":
            _unpaired_loss(translation)
            translation.default("objective", {"type": "kto", "beta": translation.given.get("beta", 0.1)})
            for name in ("desirable_weight", "undesirable_weight"):
                if name in translation.given:
                    translation.default(f"objective.{name}", translation.given[name])
        case "dpo":
            translation.default("objective", _pairs(translation))
        case _:
            translation.default("objective", _sampled(translation, method))


def _unpaired_loss(translation: Translation) -> None:
    loss = translation.given.get("loss_type", "kto")
    if loss != "kto":
        translation.current = f"loss_type: {loss}"
        translation.lacks(
            "no such loss here; kto, which is another, stands in its place (of pairs there is `apo_zero`)"
        )


def _pairs(translation: Translation) -> dict[str, Any]:
    given = translation.given
    losses = given.get("loss_type", "sigmoid")
    losses = [losses] if isinstance(losses, str) else list(losses)
    weights = given.get("loss_weights") or [1.0] * len(losses)
    weights = [float(weights)] if isinstance(weights, int | float | str) else [float(one) for one in weights]
    unknown = [loss for loss in losses if loss not in PAIRS]
    for loss in unknown:
        translation.current = f"loss_type: {loss}"
        translation.lacks(f"no such loss here. Known: {', '.join(PAIRS)}")
    parts = {loss: weight for loss, weight in zip(losses, weights, strict=False) if loss in PAIRS} or {"sigmoid": 1.0}
    objective: dict[str, Any]
    if tuple(parts) == MPO:
        names = ("preference_weight", "quality_weight", "generation_weight")
        objective = {"type": "mpo", **dict(zip(names, parts.values(), strict=True))}
    elif len(parts) > 1:
        objective = {"type": "mix", "parts": parts}
    else:
        (name,) = parts
        objective = {"type": "dpo" if name == "sigmoid" else name}
    if objective["type"] != "sft":
        objective["beta"] = given.get("beta", 0.1)
    _modify(objective, given)
    return objective


def _modify(objective: dict[str, Any], given: dict[str, Any]) -> None:
    """Options of the pair losses, where the objective has them."""
    kind = objective["type"]
    over_pairs = kind not in ("sft", "mpo")
    divergence = DIVERGENCES.get(given.get("f_divergence_type", "reverse_kl"))
    if divergence and divergence != "reverse_kl" and kind in (*MARGINS, "mix"):
        objective["divergence"] = divergence
        if divergence == "alpha":
            objective["divergence_alpha"] = given.get("f_alpha_divergence_coef", 0.5)
    if given.get("ld_alpha") is not None and over_pairs:
        objective["ld_alpha"] = given["ld_alpha"]
    if given.get("use_weighting") and over_pairs:
        objective["wpo"] = True
    if given.get("label_smoothing") and kind in SMOOTHED:
        objective["label_smoothing"] = given["label_smoothing"]
    if kind == "discopop" and "discopop_tau" in given:
        objective["tau"] = given["discopop_tau"]
    if given.get("rpo_alpha") is not None and over_pairs and kind != "mix":
        objective["rpo_alpha"] = given["rpo_alpha"]


def _sampled(translation: Translation, method: str) -> dict[str, Any]:
    given = translation.given
    if method == "rloo":
        names = {"beta": 0.05, "epsilon": 0.2}
        objective: dict[str, Any] = {"type": "rloo", **{name: given.get(name, usual) for name, usual in names.items()}}
        return objective | ({"epsilon_high": given["epsilon_high"]} if given.get("epsilon_high") is not None else {})
    loss = given.get("loss_type", "dapo")
    if loss not in SAMPLED:
        translation.current = f"loss_type: {loss}"
        translation.lacks(f"no such loss here; grpo stands in its place. Known: {', '.join(SAMPLED)}")
        loss = "grpo"
    by_answer = given.get("importance_sampling_level", "token") == "sequence"
    kind = "gspo" if by_answer and loss == "grpo" else loss
    beta = float(given.get("beta", 0.0))
    objective = {"type": kind, "beta": beta}
    scale = SCALES.get(given.get("scale_rewards", "none" if loss == "dr_grpo" else "group"), "group")
    objective["scale_rewards"] = scale
    if kind in ("grpo", "dr_grpo", "dapo", "bnpo", "gspo"):
        objective["epsilon"] = given.get("epsilon", 0.2)
        objective["epsilon_high"] = given.get("epsilon_high")
        if given.get("delta") is not None:
            objective["max_ratio"] = given["delta"]
    if kind == "cispo" and given.get("epsilon_high") is not None:
        objective["max_ratio"] = given["epsilon_high"]
    if kind == "sapo":
        for side in ("positive", "negative"):
            name = f"sapo_temperature_{side[:3]}"
            if name in given:
                objective[f"temperature_{side}"] = given[name]
    if beta > 0:
        objective["kl_ratio_corrected"] = bool(given.get("use_bias_correction_kl", True))
    return objective
