"""Every objective through ten real steps of `train` on the embedded model, on pairs of its own mistakes."""

import pytest

from sightline.config import ModelConfig
from sightline.models.load import EMBEDDED, load_model, load_processor
from sightline.scenes.options import SceneOptions
from sightline.scenes.pairs import sample_pairs
from tests.objectives.every import EVERY, build_from
from tests.training.runs import curve, run

NO_REFERENCE_LOSS = {"dft"}
"""DFT weighs each token by its own probability without gradient: its number may rise while the likelihood does."""


@pytest.fixture(scope="module")
def mistakes():
    config = ModelConfig(name="embedded")
    rows = sample_pairs(load_model(config), load_processor(config), SceneOptions(images=40), seed=5)
    return rows[:8]


@pytest.mark.parametrize("name", sorted(EVERY))
def test_six_steps_lower_the_loss(tmp_path, mistakes, name):
    """The same eight rows in every step, so that a lower loss means that the objective was pursued."""
    result = run(
        tmp_path / "run",
        EMBEDDED,
        mistakes,
        objective=EVERY[name],
        max_steps=6,
        num_train_epochs=6,
        per_device_train_batch_size=8,
        learning_rate=2e-4,
        lora={"r": 8},
    )
    losses = curve(result.folder)
    assert len(losses) == 6
    if name in NO_REFERENCE_LOSS:
        accuracy = curve(result.folder, "mean_token_accuracy")
        assert accuracy[-1] > accuracy[0]
    else:
        assert losses[-1] < losses[0]
    parts = build_from(EVERY[name]).parts
    for part in parts if len(parts) > 1 else ():
        assert len(curve(result.folder, f"loss/{part}")) == 6
