"""Epochs of a stream: whole passes over the data. The library knows no length and would count shares of `max_steps`."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.data.stream import GroupStream


class StreamEpochs(TrainerCallback):
    """Sets the epoch after each step."""

    def __init__(self, stream: GroupStream) -> None:
        self.stream = stream

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        state.epoch = float(self.stream.num_passes(state.global_step))
