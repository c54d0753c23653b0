"""What fails after the last step never costs the model: weights are saved before anything else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback

from sightline.errors import DataError
from sightline.recipe import normalise, structure
from sightline.training.run import train
from tests.training.runs import pairs, run

STEPS = 2


class Fails(TrainerCallback):
    """Raises at one event of the last step, or after it, as a tracker that has lost its server would."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self._fail)

    def _fail(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == STEPS:
            raise ConnectionError("the tracker is gone")


class Occupies(TrainerCallback):
    """Makes a folder where the run is going to write a file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        (Path(args.output_dir) / self.name).mkdir()


def bad_rows(folder: Path) -> list[dict[str, Any]]:
    """Held-out rows, the second's image is not there: the first is read before training, all of them after it."""
    good, bad = pairs(2)
    return [good, {**bad, "image": str(folder / "missing.png")}]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_model) -> dict[str, torch.Tensor]:
    """Of a run in which nothing fails."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, tiny_model("llava"), pairs(8), max_steps=STEPS)
    return load_file(folder / "adapter_model.safetensors")


FAULTS: dict[str, tuple[type[BaseException], Callable[[Path], dict[str, Any]], dict[str, Any]]] = {
    "a callback at the last step": (ConnectionError, lambda _: {"callbacks": [Fails("on_step_end")]}, {}),
    "a tracker at the last log": (ConnectionError, lambda _: {"callbacks": [Fails("on_log")]}, {}),
    "a callback after the last step": (ConnectionError, lambda _: {"callbacks": [Fails("on_train_end")]}, {}),
    "evaluation at the last step": (DataError, lambda folder: {"eval_data": bad_rows(folder)}, {"eval_steps": STEPS}),
    "evaluation after the last step": (DataError, lambda folder: {"eval_data": bad_rows(folder)}, {}),
    "the report": (IsADirectoryError, lambda _: {"callbacks": [Occupies("report.html")]}, {}),
    "the run card": (IsADirectoryError, lambda _: {"callbacks": [Occupies("sightline.json")]}, {}),
}
"""What fails → what is raised, and what `train` is given to make it fail."""


@pytest.mark.parametrize("fault", FAULTS)
def test_the_trained_model_is_saved_whatever_fails_after_the_last_step(tmp_path, tiny_model, weights, fault, capsys):
    error, options, changes = FAULTS[fault]
    tree = {
        "model": str(tiny_model("llava")),
        "output_dir": str(tmp_path / "run"),
        "max_steps": STEPS,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "dataloader_num_workers": 0,
        "lora": {"r": 4},
        "objective": {"type": "dpo"},
        "layout": "prefix",
        **changes,
    }
    with pytest.raises(error):
        train(structure(normalise(tree)), data=pairs(8), console=Console(width=500), **options(tmp_path))
    saved = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert saved.keys() == weights.keys() and all(torch.equal(saved[name], weights[name]) for name in saved)
    assert f"The trained model of step {STEPS} is saved in {tmp_path / 'run'}" in capsys.readouterr().out
    assert not (tmp_path / "run" / "sightline.json").is_file()
