"""Keys of TRL's GRPOConfig and RLOOConfig that need more than a name: rewards, vLLM, sampling."""

from pathlib import Path
from typing import Any

from sightline.translate.tables import OFF, of_vllm, rules_of
from sightline.translate.training_keys import is_file
from sightline.translate.translation import Rule, Translation

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
        translation.note(f"objective.type: {kind}")


def _reward_funcs(translation: Translation, value: Any) -> None:
    names = [value] if isinstance(value, str) else list(value)
    weights = translation.given.get("reward_weights") or [1.0] * len(names)
    rewards = {}
    for name, weight in zip(names, weights, strict=False):
        if name == "get_soft_overlong_punishment":
            translation.current = f"reward_funcs: {name}"
            translation.lacks("`objective: {type: dapo, overlong_buffer: 256}` is this punishment")
        else:
            rewards[REWARDS.get(name) or reward_in_file(name, translation.folder)] = float(weight)
    if rewards:
        translation.put("rewards", rewards)


def reward_in_file(name: str, folder: Path) -> str:
    """`rewards.f` as `FOLDER/rewards.py:f` where that file is beside the config, or in the folder of the run: TRL
    imports it from there."""
    module, _, function = str(name).rpartition(".")
    for place in dict.fromkeys((folder, Path())):
        path = place.joinpath(*module.split(".")).with_suffix(".py") if module else None
        if path is not None and is_file(str(path)):
            return f"{path}:{function}"
    return name


def _use_vllm(translation: Translation, value: Any) -> None:
    if value:
        translation.put("sampler.type", "vllm")
    else:
        translation.holds("the policy answers itself")


def _address(translation: Translation, value: Any) -> None:
    host, port = translation.given.get("vllm_server_host", "0.0.0.0"), translation.given.get("vllm_server_port", 8000)
    of_vllm("url")(translation, f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}")  # type: ignore[operator]


def _port(translation: Translation, value: Any) -> None:
    if "vllm_server_host" in translation.given:
        translation.holds("see vllm_server_host")
    else:
        _address(translation, value)


def _tensor_parallel(translation: Translation, value: Any) -> None:
    if value in (None, 1):
        translation.holds("one, as it is here")
    else:
        translation.lacks("a server's: give it to `sightline rollout-server`; in the process each samples by itself")


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
        of_vllm("importance_sampling")(translation, "none")  # type: ignore[operator]


def _counted(translation: Translation, value: Any) -> None:
    """These three count answers and forwards there, see `trl._count_prompts`."""


ONLINE_RULES: dict[str, Rule] = {
    **rules_of("trl_online"),
    "min_p": lambda t, v: t.put("sampler.min_p", v) if v is not None else t.holds(OFF),
    "per_device_train_batch_size": _counted,
    "gradient_accumulation_steps": _counted,
    "steps_per_generation": _counted,
    "repetition_penalty": _repetition,
    "reward_funcs": _reward_funcs,
    "reward_weights": lambda t, v: t.note("rewards"),
    "reward_model_name_or_path": lambda t, v: t.put("rewards", {"reward_model": {"model": v}}),
    "importance_sampling_level": _level,
    "top_entropy_quantile": lambda t, v: t.holds(OFF) if v == 1.0 else t.lacks("all tokens are trained on"),
    "log_completions": _log_completions,
    "use_vllm": _use_vllm,
    "vllm_server_host": _address,
    "vllm_server_port": _port,
    "vllm_tensor_parallel_size": _tensor_parallel,
    "vllm_importance_sampling_correction": _correction,
}
"""By key of GRPOConfig and RLOOConfig."""
