"""Stops or skips what goes wrong in a run: NaN and Inf in a step, divergence in what is logged, SIGTERM."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.config.guard import GuardConfig
from sightline.errors import RunFailed, Terminated
from sightline.objectives.objective import Objective, State
from sightline.training.checkpoint.files import way_on
from sightline.training.distributed.sharded import ShardedTrainer
from sightline.training.distributed.world import Termination
from sightline.training.step.metrics import Means
from sightline.training.step.micro_batch import StepSettings
from sightline.training.step.nonfinite import FOLDER, is_finite, names_of, offenders, write_rows
from sightline.types import Group

WINDOW = 10
"""Logged lines that an average is taken over."""


class Collapse:
    """Tells when a policy has run away from its reference, its chosen answers have lost their probability, or its
    sampled ones have become noise.

    The beginning is the average of the first lines logged; the present is that of the last ones.
    """

    def __init__(self, config: GuardConfig, *, online: bool) -> None:
        """online: answers are sampled; `kl` is that of a token then, and entropy that of the policy's own answers."""
        self.config, self.online = config, online
        self.chosen, self.kl, self.entropy = Course(), Course(), Course()
        self.said: list[str] = []

    def see(self, figures: dict[str, float]) -> str | None:
        """Take in a line of figures; what is wrong, the first time that it is."""
        if self.config.on_collapse == "ignore":
            return None
        watched = (("kl", self.kl), ("entropy", self.entropy)) if self.online else (("logps/chosen", self.chosen),)
        for name, course in watched:
            if name in figures:
                course.add(figures[name])
        for kind, problem in (("kl", self._run_away()), ("logps", self._fallen()), ("entropy", self._noise())):
            if problem is not None and kind not in self.said:
                self.said.append(kind)
                return problem
        return None

    def _run_away(self) -> str | None:
        kl = self.kl.now
        if kl is None or kl <= self.config.max_kl:
            return None
        return (
            f"The policy has run away from its reference: {kl:.1f} nats a token over the last {WINDOW} logged lines "
            f"(`guard.max_kl` is {self.config.max_kl:g}). Lower `learning_rate`, or raise `objective.beta`."
        )

    def _fallen(self) -> str | None:
        start, now = self.chosen.beginning, self.chosen.now
        if start is None or now is None or now >= start * self.config.max_logp_fall:
            return None
        return (
            f"The chosen answers have lost their probability: log-prob {now:.0f} nats an answer, {start:.0f} in the "
            f"beginning (`guard.max_logp_fall` is {self.config.max_logp_fall:g}). The margin may look good meanwhile. "
            "Lower `learning_rate`, raise `objective.beta`, or add an SFT term (`objective.rpo_alpha`)."
        )

    def _noise(self) -> str | None:
        start, now = self.entropy.beginning, self.entropy.now
        if start is None or now is None or now <= start + self.config.max_entropy_rise:
            return None
        return (
            f"The sampled answers become noise: entropy {now:.1f} nats a token over the last {WINDOW} logged lines, "
            f"{start:.1f} in the beginning (`guard.max_entropy_rise` is {self.config.max_entropy_rise:g}). Lower "
            "`learning_rate`, or set `objective.beta` above 0."
        )

    def state(self) -> dict[str, Any]:
        """To go on from."""
        courses = {name: getattr(self, name).state() for name in ("chosen", "kl", "entropy")}
        return {**courses, "said": self.said}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.said = state["said"]
        for name in ("chosen", "kl", "entropy"):
            getattr(self, name).load_state(state[name])


class Course:
    """A figure's first and last logged values."""

    def __init__(self) -> None:
        self.first: list[float] = []
        self.last: deque[float] = deque(maxlen=WINDOW)

    def add(self, value: float) -> None:
        """Take in the next."""
        if len(self.first) < WINDOW:
            self.first.append(value)
        self.last.append(value)

    @property
    def beginning(self) -> float | None:
        """The average of the first; None before they are all there."""
        return sum(self.first) / WINDOW if len(self.first) == WINDOW else None

    @property
    def now(self) -> float | None:
        """The average of the last; None before there are so many."""
        return sum(self.last) / WINDOW if len(self.last) == WINDOW else None

    def state(self) -> dict[str, list[float]]:
        """To go on from."""
        return {"first": self.first, "last": list(self.last)}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Put back what `state` gave."""
        self.first = state["first"]
        self.last.extend(state["last"])


SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


class GuardedTrainer(ShardedTrainer):
    """Between the checkpoints and the objective: what happens when numbers or signals say that something is wrong.

    Subclasses call `begin_step` before they compute a gradient and `watch` with every line of figures.
    """

    guard: GuardConfig
    objective: Objective
    objective_state: State
    settings: StepSettings
    means: Means
    say: Callable[[str], None]

    def start_guarding(self, config: GuardConfig, say: Callable[[str], None]) -> None:
        """Before training. say: shows the user a sentence."""
        self.guard, self.say = config, say
        self.collapse = Collapse(config, online=self.objective.num_responses == 0)
        self.steps_left_out = 0
        self.stopped_by: BaseException | None = None
        self.add_callback(_Agreement(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's. Raises `RunFailed`, or `Terminated` after SIGTERM, with a checkpoint of what is done."""
        with Termination() as self.termination:
            output = super().train(*args, **kwargs)
        if self.stopped_by is not None:
            raise self.stopped_by
        return output

    def begin_step(self, groups: list[Group]) -> None:
        """Remember what a step that is left out must not change."""
        self._groups = groups
        self._before = (self._tr_loss.clone(), self.means.mark(), dict(self.objective_state))

    def stop_after_step(self, reason: BaseException) -> None:
        """End training behind the present step, with a checkpoint."""
        self.stopped_by = reason
        self.control.should_save = self.control.should_training_stop = True

    def watch(self, figures: dict[str, float]) -> None:
        """Say when the logged figures show that the policy falls apart, and stop where the recipe wants it."""
        problem = self.collapse.see(figures)
        if problem is None:
            return
        if self.guard.on_collapse == "stop":
            self.stop_after_step(RunFailed(f"{problem} A checkpoint of step {self.state.global_step} is saved."))
        elif self.is_world_process_zero():
            self.say(f"Warning, step {self.state.global_step}: {problem}")

    def process_state(self) -> dict[str, Any]:
        """With what the guard has seen."""
        own = {"collapse": self.collapse.state(), "steps_left_out": self.steps_left_out}
        return super().process_state() | own

    def load_process_state(self, state: dict[str, Any]) -> None:
        """Put back what `process_state` gave."""
        super().load_process_state(state)
        self.collapse.load_state(state["collapse"])
        self.steps_left_out = state["steps_left_out"]

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The norm, when the gradient is whole; where it or the loss is not finite, the step is not taken."""
        norm = super()._get_grad_norm(model, grad_norm)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        fine = is_finite(self._tr_loss) and is_finite(norm)
        if self.settings.sum_over_processes({"wrong": 0.0 if fine else 1.0})["wrong"] == 0:
            return norm
        where = self._write_offenders()
        step = self.state.global_step + 1
        is_taken = self.is_deepspeed_enabled and is_finite(norm)
        if self.steps_left_out >= self.guard.skip_steps or is_taken:
            raise RunFailed(
                f"Loss or gradient of step {step} is NaN or Inf. {where} Mend or remove the rows, lower "
                "`learning_rate`, or leave such steps out with `--guard.skip-steps 10`. "
                f"{way_on(Path(str(self.args.output_dir)))}"
            )
        self.steps_left_out += 1
        if self.is_world_process_zero():
            self.say(f"Step {step} is left out: its loss or gradient is NaN or Inf. {where}")
        loss, mark, state = self._before
        self._tr_loss.copy_(loss)
        self.means.forget_since(mark)
        self.objective_state.update(state)
        for parameter in model.parameters():
            parameter.grad = None  # the optimizer passes over parameters without
        return 0.0

    def _write_offenders(self) -> str:
        """The rows that did it, of all processes, in a file; a sentence about it."""
        found = self._groups
        if self.accelerator.distributed_type not in SHARDED and found:
            assert self.model is not None
            found = offenders(self.model, found, self.objective, self.reference, self.settings.alone(), self._before[2])
        is_all = len(found) == len(self._groups)
        gathered = self.settings.gather((names_of(found), is_all))
        names = [name for part, _ in gathered for name in part]
        if not all(whole for _, whole in gathered):
            # some process could tell: those that could not have nothing to do with it
            names = [name for part, whole in gathered if not whole for name in part]
        assert self.args.output_dir is not None
        path = Path(self.args.output_dir) / FOLDER / f"step-{self.state.global_step + 1}.parquet"
        written = 0
        if self.is_world_process_zero():
            written = write_rows(path, self.rows_trained_on(), names)
        (written, *_) = self.settings.gather(written)
        if not written:
            return f"Its rows: {', '.join(names[:8])}."
        return f"{written} of its rows are in {path}: `sightline data show {path}` draws them."

    def rows_trained_on(self) -> Any:
        """The data set that groups come from."""
        return self.train_dataset


class _Agreement(TrainerCallback):
    """Behind every step, processes agree whether one of them was asked to end."""

    def __init__(self, trainer: GuardedTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        asked = {"asked": float(self.trainer.termination.asked)}
        if self.trainer.settings.sum_over_processes(asked)["asked"] > 0:
            self.trainer.stopped_by = Terminated()
            control.should_save = control.should_training_stop = True
