"""Online runs killed once in each phase and resumed: `python -m tests.training.killed_online FOLDER MODEL`.

One process imports everything and forks a child for each run, which in its third turn of the phase sends itself
SIGKILL. Not a test: test_killed_online.py starts it.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sightline.recipe import normalise, structure
from sightline.rewards.reward_set import RewardSet
from sightline.rollouts.prompts import PromptStream
from sightline.rollouts.sampler import TransformersSampler
from sightline.training import loop, trainer
from sightline.training.checkpoint import finish
from sightline.training.online import trainer as online
from sightline.training.run import train
from sightline.training.step import scoring
from tests.training.test_online import prompts, shortness

PHASES: dict[str, tuple[Any, str]] = {
    "wait": (PromptStream, "take"),
    "generate": (TransformersSampler, "sample"),
    "reward": (RewardSet, "score"),
    "score": (scoring, "score_by_policy"),
    "update": (trainer, "train_step"),
    "optimizer": (torch.optim.AdamW, "step"),
    "table": (online, "write_completions"),
    "evaluate": (online.OnlineTrainer, "_greedy_completions"),
    "save": (loop, "save_process"),
}
"""Phase → where it is entered."""

TURN = 3


def run(folder: Path, model: str, *, resume: bool) -> None:
    tree = {
        "model": model,
        "output_dir": str(folder),
        "resume": resume,
        "max_steps": 8,
        "save_steps": 1,
        "save_total_limit": 2,
        "eval_steps": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "lora": {"r": 4},
        "layout": "prefix",
        "objective": {"type": "grpo"},
        "sampler": {
            "type": "transformers",
            "num_generations": 4,
            "max_completion_length": 5,
            "num_iterations": 2,
            "completions_steps": 1,
        },
    }
    recipe, rows = structure(normalise(tree)), prompts(6)
    train(recipe, data=rows, eval_data=rows[:2], rewards=[shortness], console=Console(quiet=True))


def kill_in(phase: str) -> None:
    """Make this process end in its third turn of the phase, after half of its work if it has any."""
    owner, name = PHASES[phase]
    original, turns = getattr(owner, name), 0

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal turns
        turns += 1
        found = original(*args, **kwargs)
        if turns == TURN:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, watched)


def in_child(work: Callable[[], None]) -> int:
    """Exit status of a forked process that does this work."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, model: str) -> None:
    torch.set_num_threads(1)
    finish.draw_curves = lambda *_: []  # curves take longer to draw than these runs take to train
    assert in_child(lambda: run(folder / "whole", model, resume=False)) == 0
    for phase in PHASES:

        def first(phase: str = phase) -> None:
            kill_in(phase)
            run(folder / phase, model, resume=False)

        def second(phase: str = phase) -> None:
            run(folder / phase, model, resume=True)

        assert in_child(first) == -signal.SIGKILL, phase
        assert not (folder / phase / "sightline.json").exists()
        assert in_child(second) == 0, phase
        print(phase, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
