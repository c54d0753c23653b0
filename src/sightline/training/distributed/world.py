"""The processes of a run: joining them, checking that all are there, and stopping all of them when one fails."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from accelerate import PartialState
from torch.distributed import DistError, distributed_c10d

from sightline.config import Recipe
from sightline.errors import OutOfMemory, RecipeError, RunFailed, UserError
from sightline.files import RECIPE

PORTS = range(20000, 60000)
"""Among these, the job number chooses the port of the first process."""


def enter_slurm_step(environment: MutableMapping[str, str] = os.environ) -> None:
    """Inside `srun` with several tasks: set torch's variables from SLURM's. Elsewhere nothing changes."""
    if "RANK" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    job = int(environment.get("SLURM_JOB_ID", "0"))
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["WORLD_SIZE"] = environment["SLURM_STEP_NUM_TASKS"]
    environment["LOCAL_WORLD_SIZE"] = environment["SLURM_STEP_TASKS_PER_NODE"].split("(")[0].split(",")[0]
    environment.setdefault("MASTER_ADDR", _first_host(environment))
    environment.setdefault("MASTER_PORT", str(PORTS.start + job % len(PORTS)))


def _first_host(environment: Mapping[str, str]) -> str:
    """The first host of the SLURM step."""
    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "localhost"))
    if "[" not in nodes:
        return nodes.split(",")[0]
    listed = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return listed.stdout.split()[0]


def join_world(recipe: Recipe, *, on_cpu: bool) -> PartialState:
    """Join the other processes, which this one waits for; a single process outside launchers."""
    return PartialState(cpu=on_cpu, timeout=timedelta(seconds=recipe.ddp_timeout))


def check_world(found: int, recipe: Recipe) -> None:
    """Raises `UserError` where another number of processes was started or requested. found: those that have joined."""
    for wanted, who in expected(os.environ, _command_of_parent()):
        if wanted != found:
            raise UserError(
                f"{who} requested {wanted} processes, but {found} {'trains' if found == 1 else 'train'} together: the "
                "others would train alone or not at all, with a smaller batch than the recipe's. Start with `sightline "
                "train RECIPE --nproc-per-node N`, `torchrun --nproc-per-node N -m sightline.cli.main train RECIPE`, "
                "or `srun sightline train RECIPE`."
            )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if recipe.nproc_per_node is not None and recipe.nproc_per_node != local:
        raise RecipeError(
            f"`nproc_per_node` is {recipe.nproc_per_node}, but the launcher started {local} processes on this machine. "
            "Leave the field out: it is for `sightline train` alone."
        )


def expected(environment: Mapping[str, str], parent: Sequence[str]) -> list[tuple[int, str]]:
    """How many processes there should be, and what requested them. parent: the command that started this process."""
    names = {"WORLD_SIZE": "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "MPI"}
    found = [(int(environment[name]), who) for name, who in names.items() if name in environment]
    if not found and int(environment.get("SLURM_NTASKS", "1")) > 1:
        found.append((int(environment["SLURM_NTASKS"]), "SLURM (SLURM_NTASKS)"))
    if not found:
        number = _num_processes_of_accelerate(parent)
        found += [] if number is None else [(number, "`accelerate launch`")]
    return found


def _num_processes_of_accelerate(command: Sequence[str]) -> int | None:
    """`--num_processes` of an `accelerate launch`, from its flags or its config file."""
    words = [word for part in command for word in part.split("=", 1)]
    if "launch" not in words or not any("accelerate" in word for word in words):
        return None
    for flag in ("--num_processes", "--num-processes"):
        if flag in words:
            return int(words[words.index(flag) + 1])
    if "--config_file" in words:
        config = yaml.safe_load(Path(words[words.index("--config_file") + 1]).read_text())
        return config.get("num_processes") if isinstance(config, dict) else None
    return None


def _command_of_parent() -> list[str]:
    """The words of the command that started this process; none where the system does not tell."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\0")
    except OSError:  # no /proc on this system
        return []


def check_hosts(environment: Mapping[str, str] = os.environ) -> None:
    """Raises `UserError` where a scheduler gave several hosts and `sightline train` is about to use one of them."""
    hosts = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    if hosts > 1 and "SLURM_STEP_NUM_TASKS" not in environment:
        raise UserError(
            f"SLURM gave {hosts} hosts (SLURM_JOB_NUM_NODES), but `sightline train` alone starts processes on this one "
            "only: the others would be idle, with a smaller batch than the recipe's. Start it with `srun "
            "--ntasks-per-node N sightline train RECIPE`, or ask for a single host."
        )


def check_shared_folder(folder: Path) -> None:
    """Raises `UserError` where this process does not see the folder that the first one made."""
    if not (folder / RECIPE).is_file():
        raise UserError(
            f"{folder} is not the same folder on all machines: checkpoints would be in pieces. Give --output-dir a "
            "path on a file system that all of them share."
        )


@contextmanager
def explain_lost_processes() -> Iterator[None]:
    """Within, torch's errors where another process never came, has ended or is silent are raised as `RunFailed`."""
    try:
        yield
    except RuntimeError as error:
        message = str(error)
        if not isinstance(error, DistError) and "gloo/transport" not in message:
            raise
        reason = message.partition("\n")[0].rstrip(".")
        if reason.startswith("["):
            reason = reason.rpartition("] ")[2]  # without the place in gloo's source
        raise RunFailed(
            f"Another process of this run never came, has ended, or does not answer ({reason}). If it ended, its own "
            "last message tells why; a silent one is waited for during `ddp_timeout` seconds. Start all of them again "
            "with --resume: nothing is lost but the steps since the last checkpoint."
        ) from error


class Termination:
    """Within, SIGTERM is noted instead of ending the process; only Python's main thread can do so.

    received: whether it was sent.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: Any = None

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True


POLL_SECONDS = 0.5
PATIENCE = 10.0
"""Seconds that other processes have to find the reason, and then to leave a collective by themselves."""
_counter = itertools.count()


class Reasons:
    """Where a process that fails leaves its reason and the others find it. All make as many of these, in one order.

    found: the reason, once this process has found it or left it.
    """

    def __init__(self, store: Any, num_processes: int) -> None:
        self.store, self.num_processes = store, num_processes
        self.name = f"sightline/reason-{next(_counter)}"
        self.found: str | None = None
        self._lock, self._is_counted = threading.Lock(), False

    def leave(self, reason: str) -> None:
        """Leave a reason; the first one counts."""
        self.found = self.store.compare_set(self.name, "", reason).decode()

    def look(self) -> bool:
        """Whether some process left a reason. Raises `RuntimeError` where the process that keeps the store is gone."""
        if self.found is None and self.store.check([self.name]):
            self.found = self.store.get(self.name).decode()
        return self.found is not None

    def look_within(self, seconds: float) -> bool:
        """Whether a reason is found in this time; the store of a host that fell silent never answers."""

        def look() -> None:
            with suppress(RuntimeError):
                self.look()

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(seconds)
        return self.found is not None

    def wait_until_all_know(self) -> None:
        """Returns when all processes have found the reason, or after `PATIENCE`. Called by those that have."""
        end = time.monotonic() + PATIENCE
        with suppress(RuntimeError):  # the store is gone: its process has found it
            with self._lock:
                known = self.store.add(f"{self.name}/known", 0 if self._is_counted else 1)
                self._is_counted = True
            while known < self.num_processes and time.monotonic() < end:
                time.sleep(POLL_SECONDS / 5)
                known = self.store.add(f"{self.name}/known", 0)


@contextmanager
def stop_all_on_out_of_memory(num_processes: int) -> Iterator[None]:
    """Within, `OutOfMemory` of one process is raised in every other too, or ends it with exit code 2."""
    reasons = Reasons(distributed_c10d._get_default_store(), num_processes)
    left = threading.Event()
    watcher = threading.Thread(target=_watch, args=(reasons, left), daemon=True)
    watcher.start()
    try:
        yield
    except OutOfMemory as error:
        reasons.leave(str(error))
        reasons.wait_until_all_know()
        raise OutOfMemory(reasons.found) from None
    except RuntimeError:
        # perhaps a collective that broke because another process has left it
        if not reasons.look_within(PATIENCE):
            raise
        reasons.wait_until_all_know()
        raise OutOfMemory(reasons.found) from None
    finally:
        left.set()
        watcher.join(timeout=2 * POLL_SECONDS)


def _watch(reasons: Reasons, left: threading.Event) -> None:
    """Look for a reason until `left` is set; end this process where it does not leave by itself."""
    try:
        while not reasons.look():
            if left.wait(POLL_SECONDS):
                return
    except RuntimeError:  # nobody can leave a reason any more
        return
    reasons.wait_until_all_know()
    if left.wait(PATIENCE):
        return
    if os.environ.get("RANK") == "0":
        print(f"error: {reasons.found}", file=sys.stderr, flush=True)
    os._exit(2)
