"""TR-DPO while training: the reference moves every so many steps, and checkpoints carry it."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from sightline.policy.moving_reference import load_moved_state, move_reference, moved_state
from sightline.policy.reference import Reference
from sightline.training.checkpoints import InCheckpoint

FILE = "reference.safetensors"


class ReferenceUpdates(InCheckpoint):
    """Moves the reference towards the policy by `weight` after every `every` optimizer steps."""

    def __init__(self, reference: Reference, policy: nn.Module, *, every: int, weight: float) -> None:
        self.reference, self.policy = reference, policy
        self.every, self.weight = every, weight

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            move_reference(self.reference, self.policy, weight=self.weight)

    def save_into(self, checkpoint: Path) -> None:
        """The reference as it is now."""
        save_file(moved_state(self.reference, self.policy), checkpoint / FILE)

    def resume(self, checkpoint: Path) -> None:
        """Put back the reference of a checkpoint."""
        load_moved_state(self.reference, load_file(checkpoint / FILE))
