"""Flags of TRL and LLaMA-Factory at `sightline train`: told what they are here."""

import pytest

from sightline.cli.main import main
from sightline.recipe import parse_flags
from sightline.translate.flags import here
from sightline.translate.llamafactory import RULES as LLAMAFACTORY
from sightline.translate.trl_keys import RULES as TRL
from sightline.translate.trl_online_keys import ONLINE_RULES


@pytest.mark.parametrize("command", ["train", "plan"])
def test_flags_of_trl_are_looked_up(command, capsys):
    words = ["--use_peft", "--load_in_4bit", "--lora_target_modules", "q_proj", "v_proj", "--dataset_text_field", "x"]
    assert main([command, "--model", "embedded", *words]) == 2
    said = capsys.readouterr().err
    assert "`--use_peft`: here `--lora`" in said and "`--load_in_4bit`: here `--model.quantize nf4`" in said
    assert "`--lora_target_modules`: here `--lora.target-modules q_proj v_proj`" in said
    assert "`--dataset_text_field`: not needed: " in said and "`sightline recipe from-trl '…'`" in said
    assert said.count("\n") == 1 and "Known here" not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--num_generations 8", "here `--sampler.num-generations 8`"),
        ("--torch_dtype bfloat16", "here `--model.dtype bfloat16`"),
        ("--beta 0.1", "here `--objective.beta 0.1`"),
        ("--lora_rank 8", "here `--lora.r 8`"),
        ("--cutoff_len 2048", "here `--data.max-length 2048`"),
        ("--stage dpo", "here `--objective.type dpo`"),
        ("--fp16", "not here: there is no loss scaling"),
        ("--warmup_ratio 0.1", "here `--warmup-steps 0.1`"),
    ],
)
def test_what_a_flag_is_here(line, said):
    (found,) = here(parse_flags(line.split())).values()
    assert found.startswith(said)


def test_every_key_that_is_translated_says_something_as_a_flag():
    known = {**TRL, **ONLINE_RULES, **LLAMAFACTORY}
    counted = ("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation")
    silent = [name for name in known if name not in counted and not here({name: "1"})]
    assert silent == []


def test_a_flag_of_nobodys_is_answered_as_before(capsys):
    assert main(["train", "--learning-rat", "1"]) == 2
    assert "Did you mean `learning_rate`?" in capsys.readouterr().err
