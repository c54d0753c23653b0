"""One command, all GPUs: starts a process for each through torch's elastic agent (torchrun), and reports as one."""

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from sightline.config import Recipe
from sightline.data.stream.loader_workers import FOLDER
from sightline.training.distributed.world import check_hosts

LAUNCHED = "SIGHTLINE_LAUNCHED"
"""Set in the processes that `launch` starts."""
STARTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Set by torchrun, accelerate launch, Ray and MPI in the processes that they start."""


def num_to_launch(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> int:
    """How many processes this one has to start; 1 inside a launcher, where the work is this process's own."""
    if any(name in environment for name in STARTED) or int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return 1
    if recipe.nproc_per_node is not None:
        return recipe.nproc_per_node
    if recipe.use_cpu:
        return 1
    import torch

    return max(torch.cuda.device_count(), 1)


def launch(arguments: Sequence[str], num_processes: int) -> int:
    """Run `sightline train ARGUMENTS` in so many processes of this machine; the exit code of the first that failed.

    Its message is printed once. SIGTERM and SIGINT reach the processes, which then have 30 s. Raises `UserError` where
    this machine is not the only one that a scheduler gave.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    check_hosts()
    # the agent's log repeats what is printed here in a sentence
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // num_processes, 1)))
    # for messages of processes that fail, and sockets of those that are killed
    with tempfile.TemporaryDirectory(prefix="sightline-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "sightline.cli.main", "train", *arguments)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            return _report(rank, failure.exitcode, failure.message)
        except SignalException as error:
            return 128 + int(error.sigval)
        finally:
            del os.environ[FOLDER]
    return 0


def _report(rank: int, code: int, message: object) -> int:
    """Print why the first process failed; the exit code of all."""
    if code == 143:
        return code  # after SIGTERM, with a checkpoint
    if isinstance(message, dict):
        print(message["message"], file=sys.stderr)
    if code < 0:
        name = signal.Signals(-code).name
        print(
            f"stopped: process {rank} was ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}, and the "
            "others with it. Run again with --resume: nothing is lost but the steps since the last checkpoint.",
            file=sys.stderr,
        )
        return 1
    return code


def hand_to_launcher(message: str) -> bool:
    """In a process that `launch` started, leave it the message, since others may have the same. False elsewhere."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if LAUNCHED not in os.environ or path is None:
        return False
    about = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
    Path(path).write_text(json.dumps({"message": about}), encoding="utf-8")
    return True
