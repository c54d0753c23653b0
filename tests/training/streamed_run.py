"""Trains the recipe in FOLDER/recipe.json in this process, one of NUMBER, and writes which rows each step saw.

`KILL_AT`: the step after which the process kills itself.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback

from sightline.recipe import structure
from sightline.training.run import train
from sightline.training.trainer import AlignmentTrainer

folder, number = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
seen: list[list[str]] = []
step = AlignmentTrainer.training_step


def training_step(self, model, inputs, *args):
    assert self.accelerator.num_processes == number and (number == 1 or torch.distributed.get_world_size() == number)
    assert self.accelerator.distributed_type == ("MULTI_CPU" if number > 1 else "NO")
    seen.append([group.id for group in inputs["groups"]])
    return step(self, model, inputs, *args)


class Kill(TrainerCallback):
    def on_log(self, args, state, control, **kwargs):
        if state.global_step == int(os.environ.get("KILL_AT", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)


AlignmentTrainer.training_step = training_step
train(structure(json.loads((folder / "recipe.json").read_text())), callbacks=[Kill()])
(folder / f"seen-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(seen))
