"""Scripts that train with TRL are read as text, by the names of their configs, and never run."""

from pathlib import Path
from typing import Any

import pytest

from sightline.cli.main import main
from sightline.errors import RecipeError
from sightline.translate.trl import from_trl

DPO = """
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForVision2Seq, AutoProcessor
from trl import DPOConfig, DPOTrainer

MODEL = "HuggingFaceM4/idefics2-8b"

def main():
    model = AutoModelForVision2Seq.from_pretrained(MODEL, torch_dtype=torch.bfloat16)
    processor = AutoProcessor.from_pretrained(MODEL, do_image_splitting=False)
    dataset = load_dataset("openbmb/RLAIF-V-Dataset", split="train[:1%]")
    def format(example):
        example["image"].thumbnail((490, 490))
        return example
    dataset = dataset.map(format, num_proc=32)
    training_args = DPOConfig(
        output_dir="idefics2-8b-dpo", bf16=True, per_device_train_batch_size=2, gradient_accumulation_steps=32,
        num_train_epochs=1, dataset_num_proc=32, logging_steps=compute_steps(),
    )
    DPOTrainer(model, None, args=training_args, train_dataset=dataset,
               peft_config=LoraConfig(target_modules="all-linear")).train()

raise SystemExit("run")
"""
GRPO = """
from trl import GRPOConfig, GRPOTrainer
args = GRPOConfig(learning_rate=1e-5, num_generations=2, max_completion_length=1024)
GRPOTrainer(model="Qwen/Qwen2.5-VL-3B-Instruct", reward_funcs=[format_reward, accuracy_reward], args=args)
"""


def written(folder: Path, text: str, name: str = "dpo_idefics2-8b.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_the_script_of_the_dpo_article_becomes_a_recipe_and_what_is_lost_is_said(tmp_path):
    translation = from_trl(written(tmp_path, DPO))
    recipe: Any = translation.recipe()
    assert recipe.model.name == "HuggingFaceM4/idefics2-8b" and recipe.model.dtype == "bfloat16"
    assert recipe.model.processor == {"do_image_splitting": False}
    assert (recipe.data.source, recipe.data.split, recipe.data.dataset_num_proc) == (
        "openbmb/RLAIF-V-Dataset", "train[:1%]", 32,
    )  # fmt: skip
    # peft's own defaults, not those of TRL's command line
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout) == (8, 8, 0)
    assert recipe.lora.target_modules == "all-linear" and recipe.model.freeze_vision
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps) == (2, 32)
    assert (recipe.num_train_epochs, recipe.bf16, recipe.learning_rate) == (1, True, 1e-6)
    lost = dict(translation.missing)
    assert lost["logging_steps=compute_steps()"] == "no plain value in the script: write it out"
    assert any("thumbnail" in old for old in lost) and any("ten times" in new for _, new in translation.became)


def test_a_script_that_trains_all_weights_by_name_has_trls_own_defaults(tmp_path):
    translation = from_trl(written(tmp_path, GRPO, "train.py"))
    recipe: Any = translation.recipe()
    assert recipe.objective.type == "dapo" and recipe.model.name == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert recipe.lora is None and not recipe.model.freeze_vision and not recipe.model.freeze_projector
    assert recipe.model.dtype == "float32" and recipe.learning_rate == 1e-5
    assert "reward_funcs: format_reward, accuracy_reward" in dict(translation.missing)


def test_a_line_without_arguments_is_its_script(tmp_path, monkeypatch):
    written(tmp_path, DPO)
    monkeypatch.chdir(tmp_path)
    translation = from_trl("accelerate launch dpo_idefics2-8b.py")
    assert translation.recipe().output_dir == "idefics2-8b-dpo"
    with pytest.raises(RecipeError, match=r"gives no arguments, and there is no file dpo_vlm\.py"):
        from_trl("accelerate launch dpo_vlm.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", "is no Python that can be read"),
        ("\0", "is no Python that can be read"),
        ("(" * 10_000, "is no Python that can be read"),
        ("print(1)\n", "makes none of SFTConfig, DPOConfig"),
        ("from trl import DPOConfig\nDPOConfig(beta=1)\nDPOConfig(beta=2)\n", "line 2, DPOConfig in line 3"),
        ("a = DPOConfig(beta=0.1)\nb = SFTConfig()\n", "makes several configs"),
    ],
)
def test_a_script_that_says_nothing_is_an_error_and_never_an_empty_recipe(text, said, tmp_path, capsys):
    assert main(["recipe", "from-trl", written(tmp_path, text)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.out == "" and printed.err.count("\n") == 1
