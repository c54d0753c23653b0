"""The same rows through TRL 1.16's DPOTrainer and through `sightline train`: the same log-probs, family by family.

Both train all weights with a learning rate of 0, one row a step, so that their logs hold log-probs of whole answers,
chosen and rejected. Where TRL fails, Sightline does not, and its log-probs are those of plain forwards.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, List
from datasets import Image as ImageColumn
from rich.console import Console
from transformers import AutoModelForImageTextToText, ProcessorMixin
from trl import DPOConfig, DPOTrainer

from sightline.config import DataConfig, ModelConfig, Recipe
from sightline.config import DPOConfig as SightlineDPOConfig
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.data.sources.load import rows_of
from sightline.forward import plain
from sightline.models.load import load_model, load_processor
from sightline.training.run import train
from sightline.types import Group
from tests.groups import image
from tests.training.runs import lines

ONE_IMAGE = ["gemma3", "idefics2", "internvl", "llava", "llava_next", "qwen2_vl", "qwen3_5"]
SEVERAL = ["idefics3", "qwen2_5_vl", "qwen3_vl", "smolvlm"]
EVERY_TIME = ("gemma3", "llava", "qwen2_5_vl", "qwen3_5")
"""The others are for `make full-slow`."""
NAMES = ("logps/chosen", "logps/rejected")
TEMPLATE = "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% if message['role'] == 'user' %}{{ '\n' }}{% else %}{{ eos_token }}{% endif %}{% endfor %}"  # noqa: E501
"""PaliGemma's own format (images, text, a line break, the answer) as a chat template, which TRL asks for."""


def rows_with(*sizes: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    said = [("What is shown?", "A red square.", "yes blue"), ("Describe the image.", "no", "the quick brown fox")]
    return [
        {
            "images": [image(*size, seed=10 * i + j) for j, size in enumerate(shown)],
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for i, (shown, (question, chosen, rejected)) in enumerate(zip(sizes, said, strict=True))
    ]


def processor_of(folder: Path) -> ProcessorMixin:
    """The saved processor. TRL trains on what the template puts after the end-of-turn token; here it puts nothing."""
    processor = load_processor(ModelConfig(name=str(folder)))
    template = processor.chat_template
    processor.chat_template = template.replace("'<|im_end|>\n'", "'<|im_end|>'") if template else TEMPLATE
    return processor


def by_trl(folder: Path, rows: list[dict[str, Any]], out: Path) -> list[dict[str, float]]:
    """Logged figures of each row."""
    settings = {"max_length": None, "report_to": [], "use_cpu": True, "bf16": False, "disable_tqdm": True}
    trainer = DPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager"),
        args=DPOConfig(
            output_dir=str(out),
            per_device_train_batch_size=1,
            learning_rate=0.0,
            max_steps=len(rows),
            logging_steps=1,
            save_strategy="no",
            train_sampling_strategy="sequential",
            **settings,
        ),
        train_dataset=Dataset.from_list(rows).cast_column("images", List(ImageColumn())),
        processing_class=processor_of(folder),
    )
    trainer.train()
    return [line for line in trainer.state.log_history if NAMES[0] in line]


def by_sightline(folder: Path, rows: list[dict[str, Any]], out: Path) -> list[dict[str, float]]:
    recipe = Recipe(
        model=ModelConfig(name=str(folder)),
        data=DataConfig(),
        objective=SightlineDPOConfig(),
        output_dir=str(out),
        per_device_train_batch_size=1,
        learning_rate=0.0,
        max_steps=len(rows),
        shuffle=False,
        use_cpu=True,
        dataloader_num_workers=0,
    )
    train(recipe, data=rows, processor=processor_of(folder), console=Console(quiet=True))
    return [line for line in lines(out) if NAMES[0] in line]


def assert_equal(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected) == 2
    for ours, theirs in zip(found, expected, strict=True):
        for name in NAMES:
            assert abs(ours[name] - theirs[name]) <= 1e-4, name
    assert found[0][NAMES[0]] != found[1][NAMES[0]]


@pytest.mark.parametrize(
    "name", [name if name in EVERY_TIME else pytest.param(name, marks=pytest.mark.full) for name in ONE_IMAGE + SEVERAL]
)
def test_log_probs_are_those_of_trl(tiny_model: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    second = ((90, 40), (30, 80)) if name in SEVERAL else ((90, 40),)
    rows = rows_with(((50, 70),), second)
    folder = tiny_model(name)
    found = by_sightline(folder, rows, tmp_path / "sightline")
    assert_equal(found, by_trl(folder, rows, tmp_path / "trl"))


@pytest.mark.parametrize("name", ["mllama", "paligemma", "paligemma2"])
def test_where_trl_fails_log_probs_are_those_of_plain_forwards(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    rows = rows_with(((50, 70),), ((90, 40),))
    folder = tiny_model(name)
    with pytest.raises((RuntimeError, ValueError)):
        by_trl(folder, rows, tmp_path / "trl")
    groups = GroupDataset(rows_of(rows), DataConfig(), Renderer(processor_of(folder)), "pairs")
    model = load_model(ModelConfig(name=str(folder)))
    expected: list[dict[str, float]] = []
    for group in groups:
        assert isinstance(group, Group)
        with torch.no_grad():
            sums = [float(logp.sum()) for logp in plain.log_probs(model, group, name.rstrip("2"))]
        expected.append(dict(zip(NAMES, sums, strict=True)))
    assert_equal(by_sightline(folder, rows, tmp_path / "sightline"), expected)
