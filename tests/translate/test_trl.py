"""TRL's YAML and command lines become recipes that mean the same, and no key is lost on the way."""

import dataclasses
from typing import Any

import pytest
import yaml
from trl import DPOConfig, GRPOConfig, KTOConfig, ModelConfig, RLOOConfig, ScriptArguments, SFTConfig

from sightline.cli.main import main
from sightline.errors import RecipeError
from sightline.recipe import load_recipe
from sightline.translate.training_keys import TRAINING_RULES
from sightline.translate.trl import from_trl
from sightline.translate.trl_keys import RULES
from sightline.translate.trl_online_keys import ONLINE_RULES

PALIGEMMA = """accelerate launch examples/scripts/dpo_visual.py --dataset_name HuggingFaceH4/rlaif-v_formatted \
--model_name_or_path google/paligemma-3b-pt-224 --per_device_train_batch_size 2 --gradient_accumulation_steps 32 \
--dataset_num_proc 32 --output_dir dpo_paligemma_rlaif-v --bf16 --torch_dtype bfloat16 --gradient_checkpointing \
--use_peft --lora_target_modules=all-linear"""
GSPO = """accelerate launch --config_file zero3.yaml gspo_vlm.py --model_name_or_path Qwen/Qwen2.5-VL-3B-Instruct \
--learning_rate 1e-5 --dtype bfloat16 --max_completion_length 1024 --use_peft --lora_target_modules "q_proj", "v_proj" \
--per_device_train_batch_size 8 --num_generations 8 --importance_sampling_level sequence --epsilon 3e-4 \
--epsilon_high 4e-4 --beta 0.0 --loss_type grpo --gradient_accumulation_steps 2 --steps_per_generation 8"""
PAIR_LOSSES = (
    "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
    "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
CONFIGS = [DPOConfig, SFTConfig, KTOConfig, GRPOConfig, RLOOConfig, ModelConfig, ScriptArguments]
MPO = {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]}


def loaded(text, folder, method=None) -> Any:
    path = folder / "recipe.yaml"
    path.write_text(from_trl(text, method).as_yaml())
    return load_recipe(path)


def from_keys(folder, method="dpo", **keys) -> Any:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(keys))
    return loaded(str(path), folder, method)


def test_the_command_of_the_paligemma_article(tmp_path):
    recipe = loaded(PALIGEMMA, tmp_path)
    assert recipe.model.name == "google/paligemma-3b-pt-224" and recipe.model.dtype == "bfloat16"
    assert recipe.data.source == "HuggingFaceH4/rlaif-v_formatted" and recipe.data.dataset_num_proc == 32
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps) == (2, 32)
    assert recipe.lora.target_modules == "all-linear" and (recipe.lora.r, recipe.lora.alpha) == (16, 32)
    # its DPO switches dropout off, the adapter's default of 0.05 too
    assert recipe.lora.dropout == 0 and recipe.objective.type == "dpo" and recipe.bf16


def test_gspo_counts_prompts_and_optimizer_steps(tmp_path):
    """8 answers a forward, 2 forwards a step, groups of 8: 2 prompts a step; 8 forwards a round: 4 steps."""
    recipe = loaded(GSPO, tmp_path)
    assert recipe.objective.type == "gspo" and recipe.objective.epsilon == 3e-4
    assert recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps == 2
    assert recipe.sampler.steps_per_generation == 4 and recipe.sampler.num_generations == 8
    assert recipe.lora.target_modules == ["q_proj", "v_proj"] and recipe.lora.dropout == 0.05
    missing = dict(from_trl(GSPO).missing)
    assert "the script's reward functions" in missing and "the script's data set" in missing


def test_mpo(tmp_path):
    objective = from_keys(tmp_path, **MPO).objective
    assert (objective.type, objective.preference_weight, objective.generation_weight) == ("mpo", 0.8, 1.0)
    mixed = from_keys(tmp_path, loss_type=["sigmoid", "ipo"], loss_weights=[1.0, 0.5], beta=0.2).objective
    assert mixed.parts == {"sigmoid": 1.0, "ipo": 0.5} and mixed.beta == 0.2


@pytest.mark.parametrize(
    ("keys", "objective"),
    [
        *(({"loss_type": name}, {"type": name}) for name in PAIR_LOSSES),
        ({"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
         {"divergence": "alpha", "divergence_alpha": 0.3}),
        ({"f_divergence_type": "js_divergence"}, {"divergence": "js"}),
        ({"f_divergence_type": "forward_kl"}, {"divergence": "forward_kl"}),
        ({"ld_alpha": 0.5}, {"ld_alpha": 0.5}),
        ({"use_weighting": True}, {"wpo": True}),
        ({"label_smoothing": 0.1}, {"label_smoothing": 0.1}),
        ({"loss_type": "robust", "label_smoothing": 0.2}, {"type": "robust", "label_smoothing": 0.2}),
        ({"loss_type": "discopop", "discopop_tau": 0.2}, {"tau": 0.2}),
    ],
)  # fmt: skip
def test_losses_over_pairs(keys, objective, tmp_path):
    found = from_keys(tmp_path, **keys).objective
    assert {name: getattr(found, name) for name in objective} == objective


@pytest.mark.parametrize(
    ("keys", "objective"),
    [
        ({"num_generations": 8}, {"type": "dapo", "epsilon_high": None}),
        *(({"loss_type": name}, {"type": name}) for name in ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo")),
        ({"loss_type": "grpo", "delta": 4.0}, {"max_ratio": 4.0}),
        ({"loss_type": "grpo", "beta": 0.04}, {"beta": 0.04, "kl_ratio_corrected": True}),
        ({"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False}, {"kl_ratio_corrected": False}),
        ({"loss_type": "sapo", "sapo_temperature_neg": 1.1}, {"temperature_negative": 1.1}),
        ({"loss_type": "cispo", "epsilon_high": 5.0}, {"max_ratio": 5.0}),
        ({"loss_type": "grpo", "scale_rewards": False}, {"scale_rewards": "none"}),
    ],
)  # fmt: skip
def test_losses_over_sampled_answers(keys, objective, tmp_path):
    found = from_keys(tmp_path, "grpo", **keys).objective
    assert {name: getattr(found, name) for name in objective} == objective


@pytest.mark.parametrize("loss", ["luspo", "vespo"])
def test_a_loss_that_is_not_here_is_listed(loss, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"loss_type: {loss}\n")
    translation = from_trl(str(path), "grpo")
    assert f"loss_type: {loss}" in dict(translation.missing) and translation.recipe().objective.type == "grpo"


def test_a_moving_reference_vllm_and_rewards(tmp_path):
    recipe = from_keys(tmp_path, sync_ref_model=True, ref_model_mixup_alpha=0.5, ref_model_sync_steps=64)
    assert (recipe.reference.update_every, recipe.reference.update_weight) == (64, 0.5)
    keys = {"use_vllm": True, "vllm_mode": "server", "vllm_server_host": "10.0.0.2", "vllm_gpu_memory_utilization": 0.4}
    path = tmp_path / "grpo.yaml"
    keys |= {"reward_funcs": ["accuracy_reward", "my.module.reward"], "reward_weights": [1, 2]}
    path.write_text(yaml.safe_dump(keys))
    translation = from_trl(str(path))
    recipe: Any = translation.recipe()
    assert recipe.sampler.type == "vllm" and recipe.sampler.url == "http://10.0.0.2:8000"
    assert {reward.name: reward.weight for reward in recipe.rewards} == {"accuracy": 1.0, "my.module.reward": 2.0}
    assert "vllm_gpu_memory_utilization: 0.4" in dict(translation.missing)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_key_of_trl_that_a_user_may_write_has_a_rule(config):
    """Keys of TrainingArguments that have none are listed as unknown; TRL's own all have one."""
    import transformers

    inherited = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}
    own = {field.name for field in dataclasses.fields(config)} - inherited
    assert own - RULES.keys() - ONLINE_RULES.keys() == set()
    assert {"learning_rate", "warmup_ratio", "report_to", "deepspeed", "fp16"} <= TRAINING_RULES.keys()


def test_no_key_is_lost(tmp_path):
    keys = {"beta": 0.1, "lora_r": 8, "use_peft": True, "deepspeed": "zero.json", "hub_token": "x", "max_length": None}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(keys))
    translation = from_trl(str(path))
    rows = [*translation.became, *translation.redundant, *translation.missing]
    assert set(keys) <= {old.partition(":")[0] for old, _ in rows}
    assert {"deepspeed", "hub_token"} <= {old.partition(":")[0] for old, _ in translation.missing}


def test_mistakes_are_the_users(tmp_path, capsys):
    with pytest.raises(RecipeError, match="--method"):
        path = tmp_path / "config.yaml"
        path.write_text("learning_rate: 1e-5\n")
        from_trl(str(path))
    assert main(["recipe", "from-trl", "no-such.yaml"]) == 2
    assert main(["recipe", "from-trl", "what is this"]) == 2
    assert main(["recipe", "from-trl", str(path), "--method", "ppo"]) == 2
    assert main(["recipe", "from-tlr"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_server_is_no_training_and_a_known_script_has_a_recipe(capsys):
    assert main(["recipe", "from-trl", "trl vllm-serve --model m --tensor-parallel-size 1"]) == 2
    assert "sightline rollout-server" in capsys.readouterr().err
    missing = dict(from_trl("python examples/scripts/grpo_vlm.py --model_name_or_path m").missing)
    assert all("`sightline recipe show qwen2_5_vl_3b_grpo`" in why for why in missing.values()) and len(missing) == 2


def test_trl_trains_all_weights_in_float32_where_no_adapter_is_asked_for(tmp_path):
    recipe = from_keys(tmp_path, beta=0.1, model_name_or_path="m")
    assert recipe.lora is None and recipe.model.dtype == "float32"
    assert not recipe.model.freeze_vision and not recipe.model.freeze_projector
    translation = from_trl(str(tmp_path / "config.yaml"), "dpo")
    new = " ".join(new for _, new in translation.became)
    assert "model.freeze_vision: false" in new and "model.dtype: float32" in new
    adapted = from_keys(tmp_path, beta=0.1, use_peft=True)
    assert adapted.model.freeze_vision and adapted.model.dtype == "float32"
    assert from_keys(tmp_path, beta=0.1, use_peft=True, load_in_4bit=True).model.dtype == "auto"
    assert from_keys(tmp_path, beta=0.1, dtype="bfloat16").model.dtype == "bfloat16"


def test_the_learning_rate_of_an_adapter_that_is_left_out_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("use_peft: true\nbeta: 0.1\n")
    told = dict(from_trl(str(path)).became)
    assert "an adapter usually takes ten times as much" in told["learning_rate (left out: 1e-06 there)"]
    path.write_text("use_peft: true\nbeta: 0.1\nlearning_rate: 1e-5\n")
    assert not any(old.startswith("learning_rate (left out") for old, _ in from_trl(str(path)).became)


def test_every_weight_of_a_mixture_is_shown(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(MPO))
    new = dict(from_trl(str(path)).became)["loss_weights: [0.8, 0.2, 1.0]"]
    assert new == "objective.preference_weight: 0.8, objective.quality_weight: 0.2, objective.generation_weight: 1.0"


def test_rewards_of_a_module_beside_the_config_are_found(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rewards.py").write_text("def format_reward(completions, **kwargs): return [1.0]\n")
    config = tmp_path / "mine" / "grpo.yaml"
    config.write_text("reward_funcs: [rewards.format_reward, accuracy_reward, elsewhere.f]\nnum_generations: 2\n")
    names = [reward.name for reward in from_trl(str(config)).recipe().rewards]
    assert names == [f"{tmp_path}/mine/rewards.py:format_reward", "accuracy", "elsewhere.f"]
    monkeypatch.chdir(tmp_path / "mine")  # TRL looks where it is started, too
    line = "trl grpo --reward_funcs rewards.format_reward --num_generations 2"
    assert [reward.name for reward in from_trl(line).recipe().rewards] == ["rewards.py:format_reward"]


def test_apo_zero_unpaired_is_not_plain_kto(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("loss_type: apo_zero_unpaired\n")
    assert "kto, which is another" in dict(from_trl(str(path), "kto").missing)["loss_type: apo_zero_unpaired"]
    path.write_text("loss_type: kto\n")
    assert not any(old.startswith("loss_type") for old, _ in from_trl(str(path), "kto").missing)


@pytest.mark.parametrize(
    ("keys", "field", "value", "told"),
    [
        ({"save_strategy": "no", "save_steps": 500}, "save_steps", None, "save_strategy is no"),
        ({"save_strategy": False, "save_steps": 500}, "save_steps", None, "save_strategy is no"),
        ({"eval_strategy": False, "eval_steps": 50}, "eval_steps", None, "eval_strategy is no"),
        ({"lr_scheduler_type": "constant", "warmup_ratio": 0.1}, "warmup_steps", 0, "constant has no warm-up"),
        ({"optim": "galore_adamw"}, "optim", "adamw_torch", "adamw_torch stands in its place"),
        ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type", "linear", "linear stands in its place"),
        ({"vllm_tensor_parallel_size": 1}, "optim", "adamw_torch", "one, as it is here"),
    ],
)
def test_strategies_schedules_and_optimizers(keys, field, value, told, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"num_generations": 2, **keys}))
    translation = from_trl(str(path))
    assert getattr(translation.recipe(), field) == value
    assert any(told in why for _, why in [*translation.redundant, *translation.missing])


@pytest.mark.parametrize("text", ["", "# nothing\n", "frob: 1\n", "[1]: 2\n"])
def test_a_config_without_a_known_key_is_an_error_and_never_an_empty_recipe(text, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    for command in (["from-trl", str(path), "--method", "dpo"], ["from-llamafactory", str(path)]):
        assert main(["recipe", *command]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, "text", -1, 10**30, True, "", float("inf")])
def test_values_of_any_kind_are_translated_or_refused_in_a_sentence(value, tmp_path):
    path = tmp_path / "config.yaml"
    for name in {**RULES, **ONLINE_RULES}:
        path.write_text(yaml.safe_dump({name: value}))
        try:
            from_trl(str(path), "grpo").as_yaml()
        except RecipeError as error:
            assert "\n\n" not in str(error), name


def test_a_command_line_that_is_longer_than_a_file_name_is_read():
    recipe = from_trl(
        "trl dpo --model_name_or_path m --dataset_name d --run_name " + "x" * 300 + " --beta 0.1"
    ).recipe()
    assert recipe.model.name == "m" and recipe.run_name == "x" * 300
