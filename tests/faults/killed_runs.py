"""Runs that are killed at random moments and resumed: `python -m tests.faults.killed_runs SPEC.json`.

One process imports everything and forks a child for each attempt. In the child every moment that counts (a part of a
forward, a file of a checkpoint, a held-out batch, a sampled answer) is an event; at the chosen one the child sends
itself SIGKILL. Phases take turns; which of a phase's events it is, is drawn (of the first, `within` a share of them).
What was hit is printed as JSON, a line an attempt. Not a test: the tests start it.
"""

import json
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sightline.recipe import normalise, structure
from sightline.training import run
from sightline.training.checkpoint import contents, finish, recipe_file, run_folder, schedule
from sightline.training.checkpoint import files as checkpoints
from sightline.training.distributed import ddp
from sightline.training.online.rollouts import RolloutCollector
from sightline.training.step import metrics, step
from sightline.training.trainer import AlignmentTrainer
from tests.training.runs import pairs
from tests.training.test_online import prompts, shortness

PHASES = {
    "training": [
        (step, "micro_batch"),
        (torch.Tensor, "backward"),
        (torch.optim.AdamW, "step"),
    ],
    "saving": [
        (contents, "save_state"),
        (ddp, "save_state"),
        (schedule, "save_state"),
        (checkpoints, "to_disk"),
        (metrics, "to_disk"),
        (os, "rename"),
        (os, "replace"),
        (run_folder, "write_text"),
        (recipe_file, "write_text"),
    ],
    "evaluating": [(AlignmentTrainer, "evaluate"), (AlignmentTrainer, "log")],
    "rolling out": [(RolloutCollector, "collect")],
}
"""What is an event, by what the run is doing then."""


def train(spec: dict[str, Any], folder: Path, *, resume: bool) -> None:
    """The run of a specification, in this process."""
    torch.set_num_threads(1)
    tree = {"output_dir": str(folder), "resume": resume, **spec["recipe"]}
    recipe = structure(normalise(tree))
    online = recipe.objective.type == "grpo"
    rows = prompts(spec["rows"]) if online else pairs(spec["rows"])
    held_out = prompts(2) if online else pairs(3, seed=9)
    rewards = [shortness] if online else []
    run.train(recipe, data=rows, eval_data=held_out, rewards=rewards, console=Console(quiet=True))


def watch(phase: str, moment: int, record: Path) -> Counter[str]:
    """Make this process kill itself at event number `moment` of the phase, and note that in `record`.

    Returns how many events of each phase there were, so far.
    """
    seen: Counter[str] = Counter()

    def watched(call: Callable[..., Any], own: str) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            seen[own] += 1
            if (own, seen[own]) == (phase, moment):
                record.write_text(json.dumps({own: moment}))
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    for own, places in PHASES.items():
        for owner, name in places:
            setattr(owner, name, watched(getattr(owner, name), own))
    return seen


def attempt(spec: dict[str, Any], folder: Path, *, resume: bool, phase: str = "", moment: int = 0) -> dict[str, Any]:
    """One child: how it ended, and how many events of each phase it had, or in which phase it was killed."""
    record = folder.with_name(folder.name + ".events")
    record.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            seen = watch(phase, moment, record)
            train(spec, folder, resume=resume)
            record.write_text(json.dumps(seen))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {
        "killed": killed,
        "code": None if killed else os.waitstatus_to_exitcode(status),
        "phase": phase if killed else None,
        "events": json.loads(record.read_text()) if record.exists() else {},
        "checkpoints": sorted(path.name for path in folder.glob("checkpoint-*")),
    }


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    finish.draw_curves = lambda *_: []  # curves take longer to draw than these runs take to train
    folder, draw = Path(spec["folder"]), random.Random(spec["seed"])
    events = attempt(spec, folder / "whole", resume=False)["events"]
    phases = spec.get("phases", sorted(events))
    kills, runs, resume = 0, 0, False
    while True:
        # beyond the last of its kills the run is left in peace
        phase = phases[kills % len(phases)] if kills < spec["kills"] else ""
        latest = max(int(events[phase] * spec.get("within", 1.0)), 1) if phase else 0
        moment = spec.get("moment", draw.randint(1, latest)) if phase else 0
        name = "killed" if runs == 0 else f"killed-{runs}"
        result = attempt(spec, folder / name, resume=resume, phase=phase, moment=moment)
        print(json.dumps(result), flush=True)
        if result["killed"]:
            kills, resume = kills + 1, True
        elif result["code"] == 0 and kills < spec["kills"] and spec.get("until_killed_so_often"):
            # it came to its end before: another run takes the kills that are left
            runs, resume = runs + 1, False
        else:
            return


if __name__ == "__main__":
    main()
