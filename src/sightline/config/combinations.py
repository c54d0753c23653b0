"""Groups of a recipe that contradict one another, with the reason; each group by itself was checked before."""

from collections.abc import Sequence

from sightline.config.data import DataConfig
from sightline.config.model import LoraConfig, ModelConfig, ReferenceConfig
from sightline.config.objective import MixConfig, MPOConfig, ObjectiveConfig
from sightline.config.online import RewardConfig, SamplingConfig, VLLMSamplerConfig
from sightline.config.online_objectives import DistillConfig, OnlineConfig, ReinforcePPConfig
from sightline.config.other_objectives import CPOConfig, KTOConfig, MDPOConfig, ORPOConfig, SimPOConfig
from sightline.config.pair_objectives import PairConfig
from sightline.config.pairs import JudgedPairsConfig, PairMakingConfig
from sightline.config.refusal import default
from sightline.errors import RecipeError


def needs_reference(objective: ObjectiveConfig) -> bool:
    """Whether the objective compares the policy with a reference."""
    if isinstance(objective, OnlineConfig):
        return objective.beta > 0
    if isinstance(objective, MPOConfig):
        return True
    if isinstance(objective, MixConfig):
        return any(part.config.needs_reference for part in objective.read_parts().values())
    return objective.needs_reference


def corrupts_images(objective: ObjectiveConfig) -> bool:
    """Whether some part of the objective is mDPO's."""
    parts = [part.config for part in objective.read_parts().values()] if isinstance(objective, MixConfig) else []
    return any(isinstance(config, MDPOConfig) for config in (objective, *parts))


def lends_answers(objective: ObjectiveConfig) -> bool:
    """Whether some part of the objective is KTO's, which scores answers to other prompts."""
    parts = [part.config for part in objective.read_parts().values()] if isinstance(objective, MixConfig) else []
    return any(isinstance(config, KTOConfig) for config in (objective, *parts))


def refuse_reference(objective: ObjectiveConfig, reference: ReferenceConfig, lora: LoraConfig | None) -> None:
    """Raises `ValueError` for a reference where there is nothing to compare with it, for none where there is, and for
    one that cannot be or cannot move."""
    needed = needs_reference(objective)
    _refuse_teacher(objective, reference)
    if reference.type == "none" and needed:
        raise ValueError(
            f"`objective.type: {objective.type}` compares the policy with a reference, but `reference.type` is none. "
            "Leave `reference` out, or choose an objective without one."
        )
    if reference.type in ("adapter-off", "frozen-copy", "precomputed", "last-round") and not needed:
        raise ValueError(
            f"`objective.type: {objective.type}` has no reference, but `reference.type` is {reference.type}. "
            "Leave `reference` out."
        )
    if reference.type == "precomputed" and lends_answers(objective):
        raise ValueError(
            f"`reference.type: precomputed` cannot serve `objective.type: {objective.type}`, which scores answers to "
            "other prompts, drawn in each step. Use `reference.type: auto`."
        )
    if reference.update_every is not None and not needed:
        raise ValueError(
            f"`objective.type: {objective.type}` has no reference that `reference.update_every` could move. Leave "
            "`reference` out."
        )
    if reference.update_every is not None and reference.type == "adapter-off":
        raise ValueError(
            "`reference.update_every` moves a copy of the model, and `reference.type: adapter-off` keeps none. Take "
            "`reference.type: auto` or frozen-copy."
        )
    if reference.type == "adapter-off" and lora is None:
        raise ValueError(
            "`reference.type: adapter-off` turns the adapter off, but the recipe trains all weights. "
            "Add a `lora` group, or use `reference.type: frozen-copy`."
        )


def _refuse_teacher(objective: ObjectiveConfig, reference: ReferenceConfig) -> None:
    """Raises `ValueError` for a teacher that nobody learns from, a student without one, and one without a name."""
    is_teacher, distills = reference.type == "teacher", isinstance(objective, DistillConfig)
    if distills and not is_teacher:
        raise ValueError(
            "`objective.type: distill` learns from a teacher. Name it: `reference: {type: teacher, model: NAME}`."
        )
    if is_teacher and not distills:
        raise ValueError(
            f"`reference.type: teacher` is for `objective.type: distill`; {objective.type} compares the policy with "
            "where it started. Use `reference.type: auto`."
        )
    if is_teacher and reference.model is None:
        raise ValueError("`reference.type: teacher` needs `reference.model`: the hub id or folder of the teacher.")
    if is_teacher and reference.update_every is not None:
        raise ValueError("`reference.update_every` would move the teacher towards its student. Leave it out.")
    if not is_teacher and (reference.model or reference.adapter or reference.quantize != "none"):
        raise ValueError(
            f"`reference.model`, `adapter` and `quantize` describe a teacher; `reference.type` is {reference.type}. "
            "Leave them out, or use `reference.type: teacher`."
        )


def refuse_idle_evaluation(eval_steps: int | None, eval_on_start: bool, held_out: bool) -> None:
    """Raises `RecipeError` for evaluations on held-out rows where none are held out."""
    if held_out or (eval_steps is None and not eval_on_start):
        return
    field = "eval_on_start" if eval_steps is None else "eval_steps"
    raise RecipeError(
        f"`{field}` evaluates on held-out rows, but none are held out. Give `data.val_size` (a share or a count) or "
        f"`data.eval_source`, or leave `{field}` out."
    )


def refuse_groups(objective: ObjectiveConfig, sampler: SamplingConfig | None) -> None:
    """Raises `ValueError` for groups of one answer where advantages compare the answers of a group."""
    if sampler is None or sampler.num_generations > 1:
        return
    if isinstance(objective, OnlineConfig) and not isinstance(objective, ReinforcePPConfig | DistillConfig):
        raise ValueError(
            f"`sampler.num_generations: 1` gives `objective.type: {objective.type}` nothing to learn from: it compares "
            "the answers to one prompt with each other. Take 2 or more (8 is usual), or `objective.type: reinforce_pp`."
        )


def refuse_sampler(model: ModelConfig, lora: LoraConfig | None, sampler: SamplingConfig | None) -> None:
    """Raises `ValueError` for policies that are not a plain LoRA adapter on the base as it is stored, or all weights:
    nothing else reaches vLLM, which would sample from another model."""
    if not isinstance(sampler, VLLMSamplerConfig):
        return
    trained = {
        f"`model.quantize: {model.quantize}` trains on rounded weights": model.quantize != "none",
        "`lora.init: pissa` takes the adapter's start out of the base's weights": lora and lora.init == "pissa",
        "`lora.use_dora` trains magnitudes, for which vLLM has no place": lora and lora.use_dora,
        "`lora.target_modules` with `experts` adapts stacked weights, for which vLLM takes no such adapter": (
            lora and lora.adapts_experts
        ),
    }
    for why, is_so in trained.items():
        if is_so:
            raise ValueError(
                f"{why}, but `sampler.type: vllm` gets a LoRA adapter and has the base as it is stored: it would "
                "sample from another model than the one that is trained. Leave that out, or take `sampler.type: "
                "transformers`."
            )


def reads_pairs(objective: ObjectiveConfig) -> bool:
    """Whether the objective compares a chosen with a rejected response, some part of it at least."""
    if isinstance(objective, MixConfig):
        return any(reads_pairs(part.config) for part in objective.read_parts().values())
    return isinstance(objective, PairConfig | MDPOConfig | SimPOConfig | ORPOConfig | CPOConfig | MPOConfig)


def refuse_rounds(
    objective: ObjectiveConfig, reference: ReferenceConfig, lora: LoraConfig | None, rounds: int | None
) -> None:
    """Raises `ValueError` for rounds of an objective that has no pairs, and for a reference that rounds cannot have."""
    if rounds is None:
        if reference.type == "last-round":
            raise ValueError(
                "`reference.type: last-round` is the model that a round began with, but the recipe has no `rounds`. "
                "Give `rounds`, or use `reference.type: auto`."
            )
        return
    if not reads_pairs(objective):
        raise ValueError(
            f"`rounds` makes pairs anew in every round, but `objective.type: {objective.type}` reads none. Leave it "
            "out, or take a pair objective such as dpo."
        )
    if reference.path is not None:
        raise ValueError(
            "`reference.path` holds the log-probs of one model on one set of rows; with `rounds` both change. Leave it "
            "out."
        )


def refuse_pairs(
    objective: ObjectiveConfig,
    sampler: SamplingConfig | None,
    rewards: Sequence[RewardConfig],
    pairs: PairMakingConfig | None,
) -> None:
    """Raises `ValueError` for a sampler, rewards or a way of making pairs where nothing is sampled or compared."""
    if isinstance(objective, OnlineConfig):
        if pairs is not None:
            raise ValueError(
                f"`pairs` makes pairs of a chosen and a rejected answer; `objective.type: {objective.type}` learns "
                "from rewards themselves. Leave `pairs` out, or take a pair objective such as dpo."
            )
        return
    given = {"sampler": sampler, "rewards": rewards, "pairs": pairs}
    named = next((name for name, value in given.items() if value), None)
    if named is not None and not reads_pairs(objective):
        raise ValueError(
            f"`{named}` is for objectives over sampled answers (grpo, gspo, …) or over pairs of them (dpo, …); "
            f"`objective.type: {objective.type}` reads its answers from the data. Leave `{named}` out."
        )
    if pairs is not None and not isinstance(pairs, JudgedPairsConfig) and rewards:
        way = default(type(pairs), "type")
        raise ValueError(
            f"`pairs.type: {way}` makes its pairs without a judge, so `rewards` would do nothing. Leave "
            "`rewards` out, or take `pairs.type: judged`."
        )
    if sampler is not None and pairs is None and not rewards:
        raise ValueError(
            f"`sampler` samples answers, but nothing makes pairs of them for `objective.type: {objective.type}`. Give "
            "`rewards` that judge them (or a way without a judge, such as `pairs: continue_blind`), or leave `sampler` "
            "out."
        )
    judged = rewards and (pairs is None or isinstance(pairs, JudgedPairsConfig))
    if judged and sampler is not None and sampler.num_generations < 2:
        raise ValueError(
            "`sampler.num_generations: 1` leaves nothing to compare: a pair is the best and the worst of several "
            "answers to a prompt. Take 2 or more (8 is usual)."
        )


def refuse_rows(objective: ObjectiveConfig, data: DataConfig, *, samples: bool) -> None:
    """Raises `ValueError` for a way of reading rows that the objective cannot have."""
    if data.share_images and corrupts_images(objective):
        raise ValueError("mDPO corrupts the image of each row, so `data.share_images` has to be false.")
    if data.share_images and lends_answers(objective):
        raise ValueError(
            f"`data.share_images` puts the question of each row in front of its answers, but `objective.type: "
            f"{objective.type}` (KTO) also scores each row's answer under another row's question, and the answer would "
            "bring its own question along. Leave `data.share_images` out."
        )
    if not samples:
        return
    if corrupts_images(objective):
        raise ValueError(
            "mDPO corrupts the image of each row of pairs that are there; it cannot sample them in each step. Give "
            "`rounds`, or make the pairs with `sightline pairs` and train on those, without `rewards`."
        )
    if data.share_images:
        raise ValueError(
            f"`data.share_images` puts several prompts into one group, but `objective.type: {objective.type}` "
            "samples answers to each prompt apart. Leave it out."
        )
    if data.streaming:
        raise ValueError(
            f"`data.streaming` reads rows from front to back, but `objective.type: {objective.type}` comes back to "
            "prompts, which needs an index of them. Leave it out; `data.limit` and `split: train[:1%]` take a part."
        )


def fit_complaint(model: ModelConfig, lora: LoraConfig | None, reference: ReferenceConfig) -> str | None:
    """Which ways to save memory go together: why this combination means nothing, and the fix; None where it is fine."""
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


def _experts_complaint(lora: LoraConfig, reference: ReferenceConfig) -> str | None:
    """What an adapter on stacked weights, W + s·B·A in every forward, has no place for."""
    unknown = {
        f"lora.dropout: {lora.dropout}": lora.dropout > 0,
        "lora.use_dora": lora.use_dora,
        "lora.init: pissa": lora.init == "pissa",
        "reference.update_weight below 1": reference.update_every is not None and reference.update_weight < 1,
    }
    given = [name for name, is_so in unknown.items() if is_so]
    if not given:
        return None
    return (
        f"`{given[0]}` is for linear layers, but `lora.target_modules` has `experts`, which are stacked weights. Leave "
        "one of them out."
    )


def _adapter_complaint(model: ModelConfig, lora: LoraConfig, reference: ReferenceConfig) -> str | None:
    if lora.adapts_experts and (complaint := _experts_complaint(lora, reference)):
        return complaint
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
