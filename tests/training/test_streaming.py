"""A run on rows that are read from front to back."""

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from sightline.errors import RecipeError
from sightline.recipe import structure
from sightline.training.run import train
from tests.training.runs import curve, pairs


def recipe(tmp_path, model, **data: object):
    return structure(
        {
            "model": {"name": str(model)},
            "output_dir": str(tmp_path / "run"),
            "max_steps": 4,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 4,
            "dataloader_num_workers": 1,
            "lora": {"r": 4},
            "data": {"source": str(tmp_path / "rows.jsonl"), "streaming": True, "shuffle_buffer": 4, **data},
        }
    )


@pytest.fixture
def source(tmp_path):
    rows = []
    for i, row in enumerate(pairs(10)):
        assert isinstance(row["image"], Image.Image)
        buffer = io.BytesIO()
        row["image"].save(buffer, "PNG")
        (tmp_path / f"{i}.png").write_bytes(buffer.getvalue())
        rows.append({**row, "image": f"{i}.png"})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_a_streamed_run_trains_over_several_passes(source, tiny_model):
    result = train(recipe(source, tiny_model("llava")), console=Console(quiet=True))
    losses = curve(source / "run")
    assert len(losses) == 4 and losses[0] == pytest.approx(0.6931, abs=1e-3) and losses[3] != losses[0]
    assert result.metrics["epoch"] > 1


@pytest.mark.parametrize(
    ("change", "expected"), [({"val_size": 2}, "val_size"), ({"share_pictures": True}, "share_pictures")]
)
def test_what_needs_all_rows_at_hand_is_refused(source, tiny_model, change, expected):
    with pytest.raises(RecipeError, match=expected):
        train(recipe(source, tiny_model("llava"), **change), console=Console(quiet=True))
