"""Training on frozen weights in fewer bits: the loss goes where it goes in bfloat16; optimizers in 8 bits."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from sightline.config import ModelConfig
from sightline.errors import RecipeError
from sightline.models.load import load_model, load_processor
from sightline.scenes.options import SceneOptions
from sightline.scenes.pairs import sample_pairs
from tests.training.runs import curve, pairs, run

STEPS, LAST = 50, 10


@pytest.fixture(scope="module")
def scenes():
    config = ModelConfig(name="embedded")
    return sample_pairs(load_model(config), load_processor(config), SceneOptions(images=100), seed=3)


def losses(folder: Path, rows: list, quantize: str) -> list[float]:
    run(
        folder,
        Path("embedded"),
        rows,
        model={"name": "embedded", "quantize": quantize, "dtype": "bfloat16"},
        lora={"r": 16},
        max_steps=STEPS,
        num_train_epochs=10,
        learning_rate=8e-4,
        per_device_train_batch_size=8,
        objective={"type": "dpo", "rpo_alpha": 8.0},
    )
    return curve(folder)[:STEPS]


@pytest.mark.full
def test_the_loss_after_fifty_steps_is_within_five_percent_of_bfloat16s(tmp_path, scenes):
    """Of the embedded model on scenes, averaged over the last ten steps: single steps are noisy."""
    after = {}
    for kind in ("none", "nf4", "int8"):
        found = losses(tmp_path / kind, scenes, kind)
        after[kind] = sum(found[-LAST:]) / LAST
        assert after[kind] < 0.8 * found[0], "it learns"
    assert after["nf4"] == pytest.approx(after["none"], rel=0.05)
    assert after["int8"] == pytest.approx(after["none"], rel=0.05)
    assert len(set(after.values())) == 3


EIGHT: dict[str, Any] = {"max_steps": 4, "save_steps": 2, "lora": {"r": 64}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_model):
    """The curve of AdamW with its states in float32."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    run(folder, tiny_model("llava"), pairs(8), **EIGHT, optim="adamw_torch")
    return curve(folder)


@pytest.mark.parametrize("optim", ["adamw_8bit", "paged_adamw_8bit"])
def test_adamw_with_states_in_eight_bits_follows_adamw_and_resumes(tmp_path, tiny_model, plain, optim):
    rows, options = pairs(8), {**EIGHT, "optim": optim}
    run(tmp_path / "run", tiny_model("llava"), rows, **options)
    eight = curve(tmp_path / "run")
    assert eight == pytest.approx(plain, rel=0.05) and eight[1:4] != plain[1:4]
    (tmp_path / "run" / "sightline.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    run(tmp_path / "run", tiny_model("llava"), rows, **options, resume=True)
    assert curve(tmp_path / "run") == pytest.approx(eight, rel=1e-6)


def test_an_optimizer_that_does_not_exist_is_refused_before_a_model_is_loaded(tmp_path):
    with pytest.raises(RecipeError, match="Did you mean `paged_adamw_8bit`"):
        run(tmp_path / "run", tmp_path / "no-model", pairs(2), optim="paged_adamw_8bits")
