"""Keys of TRL's GRPOConfig and RLOOConfig → keys of a recipe."""

from typing import Any

from sightline.config.online import SERVER_ONLY
from sightline.translate.training_keys import missing, needless
from sightline.translate.translation import Rule, Translation
from sightline.translate.trl_keys import OFF, of_objective

REWARDS = {
    "accuracy_reward": "accuracy",
    "reasoning_accuracy_reward": "accuracy",
    "think_format_reward": "think_format",
}
"""TRL's built-in rewards that are here too."""


def _level(translation: Translation, value: Any) -> None:
    kind = translation.tree["objective"]["type"]
    if value == "sequence" and kind != "gspo":
        translation.lacks(f"ratios of whole answers are those of `objective.type: gspo`; this one is {kind}")
    else:
        translation.became.append((translation.current, f"objective.type: {kind}"))


def _reward_funcs(translation: Translation, value: Any) -> None:
    names = [value] if isinstance(value, str) else list(value)
    weights = translation.given.get("reward_weights") or [1.0] * len(names)
    rewards = {}
    for name, weight in zip(names, weights, strict=False):
        if name == "get_soft_overlong_punishment":
            translation.current = f"reward_funcs: {name}"
            translation.lacks("`objective: {type: dapo, overlong_buffer: 256}` is this punishment")
        else:
            rewards[REWARDS.get(name, name)] = float(weight)
    if rewards:
        translation.put("rewards", rewards)


def _vllm(name: str) -> Rule:
    """A field of the vLLM sampler; without `use_vllm` TRL reads none of them."""

    def rule(translation: Translation, value: Any) -> None:
        server = translation.given.get("vllm_mode", "colocate") == "server"
        if not translation.given.get("use_vllm"):
            translation.holds("not read there without use_vllm")
        elif value is None:
            translation.holds("the default")
        elif server and name in (
            "gpu_memory_utilization",
            "tensor_parallel_size",
            "max_model_len",
            "sleep",
            "model_impl",
        ):
            translation.lacks("belongs to the server: give it to `sightline rollout-server`")
        elif not server and name in SERVER_ONLY:
            translation.holds("not read there without vllm_mode server")
        else:
            translation.put(f"sampler.{name}", value)

    return rule


def _use_vllm(translation: Translation, value: Any) -> None:
    if value:
        translation.put("sampler.type", "vllm")
    else:
        translation.holds("the policy answers itself")


def _address(translation: Translation, value: Any) -> None:
    host, port = translation.given.get("vllm_server_host", "0.0.0.0"), translation.given.get("vllm_server_port", 8000)
    _vllm("url")(translation, f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}")  # type: ignore[operator]


def _port(translation: Translation, value: Any) -> None:
    if "vllm_server_host" in translation.given:
        translation.holds("see vllm_server_host")
    else:
        _address(translation, value)


def _repetition(translation: Translation, value: Any) -> None:
    if value in (None, 1, 1.0):
        translation.holds(OFF)
    else:
        translation.lacks("log-probs would not be the policy's")


def _log_completions(translation: Translation, value: Any) -> None:
    if value:
        translation.put("sampler.completions_steps", translation.given.get("logging_steps", 10))
    else:
        translation.holds(OFF)


def _correction(translation: Translation, value: Any) -> None:
    if value:
        translation.holds("on, as it is here")
    else:
        _vllm("importance_sampling")(translation, "none")  # type: ignore[operator]


def _scale(translation: Translation, value: Any) -> None:
    of_objective("scale_rewards")(translation, value)  # type: ignore[operator]


ONLINE_MISSING = {
    "chat_template_kwargs": "the chat template's own defaults",
    "max_tool_calling_iterations": "no tools",
    "log_completions_hub_repo": "nothing is uploaded",
    "vespo_k_pos": "no vespo here",
    "vespo_k_neg": "no vespo here",
    "vespo_lambda_pos": "no vespo here",
    "vespo_lambda_neg": "no vespo here",
    "multi_objective_aggregation": "rewards are added up by their weights before they are compared",
    "entropy_coef": "no bonus for entropy; it is logged",
    "use_adaptive_entropy": "no bonus for entropy; it is logged",
    "entropy_coef_min": "no bonus for entropy; it is logged",
    "entropy_coef_max": "no bonus for entropy; it is logged",
    "entropy_coef_delta": "no bonus for entropy; it is logged",
    "entropy_target": "no bonus for entropy; it is logged",
    "vllm_structured_outputs_regex": "answers are free text",
    "vllm_importance_sampling_clip_min": "weights are bounded from above",
    "off_policy_mask_threshold": "importance weights bound what is off policy",
    "normalize_advantages": "`objective.type: reinforce_pp` whitens advantages over the step",
    "reward_clip_range": "clip in a reward function of your own",
}

ONLINE_RULES: dict[str, Rule] = {
    "num_generations": "sampler.num_generations",
    "max_completion_length": "sampler.max_completion_length",
    "temperature": "sampler.temperature",
    "top_p": "sampler.top_p",
    "top_k": "sampler.top_k",
    "min_p": lambda t, v: t.put("sampler.min_p", v) if v is not None else t.holds(OFF),
    "num_iterations": "sampler.num_iterations",
    # these three count answers and forwards there, see `trl._count_prompts`
    "per_device_train_batch_size": lambda t, v: None,
    "gradient_accumulation_steps": lambda t, v: None,
    "steps_per_generation": lambda t, v: None,
    "generation_batch_size": missing("follows from steps_per_generation"),
    "num_generations_eval": needless("held-out prompts get one greedy answer"),
    "repetition_penalty": _repetition,
    "generation_kwargs": missing("name what it sets in `sampler`"),
    "cache_implementation": missing("the sampler's own"),
    "reward_funcs": _reward_funcs,
    "reward_weights": lambda t, v: t.became.append((t.current, "rewards")),
    "reward_model_name_or_path": lambda t, v: t.put("rewards", {"reward_model": {"model": v}}),
    "epsilon": of_objective("epsilon"),
    "epsilon_high": of_objective("epsilon_high", "max_ratio"),
    "delta": of_objective("max_ratio"),
    "importance_sampling_level": _level,
    "scale_rewards": _scale,
    "use_bias_correction_kl": of_objective("kl_ratio_corrected"),
    "sapo_temperature_pos": of_objective("temperature_positive"),
    "sapo_temperature_neg": of_objective("temperature_negative"),
    "mask_truncated_completions": missing("answers that hit the limit are trained on; `overlong_buffer` punishes them"),
    "top_entropy_quantile": lambda t, v: t.holds(OFF) if v == 1.0 else t.lacks("all tokens are trained on"),
    "log_completions": _log_completions,
    "num_completions_to_print": needless("tables are written as parquet, with pictures"),
    "log_multimodal": needless("pictures are in the tables"),
    "ds3_gather_for_generation": needless("decided by the sampler"),
    "use_vllm": _use_vllm,
    "vllm_mode": _vllm("mode"),
    "vllm_server_base_url": _vllm("url"),
    "vllm_server_host": _address,
    "vllm_server_port": _port,
    "vllm_server_timeout": _vllm("server_timeout"),
    "vllm_gpu_memory_utilization": _vllm("gpu_memory_utilization"),
    "vllm_max_model_length": _vllm("max_model_len"),
    "vllm_tensor_parallel_size": _vllm("tensor_parallel_size"),
    "vllm_enable_sleep_mode": _vllm("sleep"),
    "vllm_model_impl": _vllm("model_impl"),
    "vllm_importance_sampling_correction": _correction,
    "vllm_importance_sampling_mode": _vllm("importance_sampling"),
    "vllm_importance_sampling_cap": _vllm("importance_sampling_cap"),
    "vllm_importance_sampling_clip_max": _vllm("importance_sampling_cap"),
    **{name: missing(why) for name, why in ONLINE_MISSING.items()},
    "vllm_group_port": needless("weights reach the server over its own connection"),
    "use_transformers_paged": missing("generation in pages takes no pictures"),
    "use_transformers_continuous_batching": missing("generation in pages takes no pictures"),
    "transformers_continuous_batching_config": missing("generation in pages takes no pictures"),
    "cast_lm_head_to_fp32": needless("log-probs are computed in float32"),
    "log_unique_prompts": needless("a table has one row an answer, with its prompt's row number"),
}
"""By key of GRPOConfig and RLOOConfig."""
