"""Benchmark scores while training: evaluate every so many steps, keep the best weights, stop early."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

from transformers import TrainerControl, TrainerState, TrainingArguments

from sightline.config import Recipe
from sightline.config.evaluation import EvaluationConfig
from sightline.config.figures import Better, better_side
from sightline.errors import RecipeError
from sightline.evaluation.asking import asking_of
from sightline.evaluation.record import Record, append
from sightline.evaluation.run import ask
from sightline.evaluation.summary import Summary, summarise, write_summary
from sightline.evaluation.task import OVERALL, Task
from sightline.evaluation.tasks.registry import named_tasks
from sightline.files import RUN_CARD, write_text
from sightline.training.checkpoint.files import InCheckpoint, explain_unreadable
from sightline.training.checkpoint.run_folder import explain_disk_errors
from sightline.training.trainer import AlignmentTrainer
from sightline.training.watch.progress import ProgressBar

FILE = "evaluation.json"
BEST = "best"
SCORES = "scores"


@dataclass
class Watch:
    """Judges figures as they come; its fields are all that a checkpoint has to keep.

    figure: the watched one. best, best_step: its best value so far. waited: values since then that were no better.
    limited: the last value of each figure that has a limit. stopped: a sentence on why the run stopped.
    """

    figure: str | None = None
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    limited: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    seen: list[int] = field(default_factory=list)

    def judge(
        self, config: EvaluationConfig, better: Mapping[str, Better], step: int, figures: Mapping[str, float]
    ) -> bool:
        """Take in the figures of a step; returns whether the watched one is the best so far.

        better: which way each watched figure is better. Figures that are not watched are let be.
        """
        self.seen.append(step)
        self.limited |= {name: figures[name] for name in config.limits if name in figures}
        is_best = False
        if config.best is not None and config.best in figures:
            value, self.figure = figures[config.best], config.best
            first = self.best is None or isnan(self.best)
            is_best = not isnan(value) and (first or is_better(value, self.best or 0.0, better[config.best]))
            if is_best:
                self.best, self.best_step, self.waited = value, step, 0
            else:
                self.waited += 1
        self.stopped = self.reason_to_stop(config, better)
        return is_best

    def go_on(self, config: EvaluationConfig, better: Mapping[str, Better], *, new_figures: bool = False) -> None:
        """Judge what a checkpoint remembers by these settings, which may be others than those it was judged by.

        new_figures: those to come cannot be compared with what it remembers.
        """
        if new_figures:
            self.limited = {}
        if new_figures or self.figure != config.best:
            self.figure, self.best, self.best_step, self.waited = config.best, None, None, 0
        self.stopped = self.reason_to_stop(config, better)

    def reason_to_stop(self, config: EvaluationConfig, better: Mapping[str, Better]) -> str | None:
        """Why these settings stop a run that stands here, as a sentence; None where they let it go on."""
        for name, limit in config.limits.items():
            if name in self.limited and is_better(limit, self.limited[name], better[name]):
                side = "below" if better[name] == "higher" else "above"
                return f"{name} is {self.limited[name]:.4g}, {side} its limit of {limit:g}"
        if config.patience is not None and self.waited >= config.patience:
            if self.best is None:
                return f"{config.best} was no number in {self.waited} evaluations"
            return f"{config.best} was {self.best:.4g} at step {self.best_step} and has not been better since"
        return None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def is_better(a: float, b: float, better: Better) -> bool:
    """Whether a is strictly better than b; NaN is never better."""
    return a > b if better == "higher" else a < b


class Scores(InCheckpoint):
    """The callback that scores, keeps the best weights and stops early. `attach` gives it its trainer."""

    trainer: AlignmentTrainer

    def __init__(self, recipe: Recipe, scoring: "Scoring", bar: ProgressBar) -> None:
        self.recipe, self.config, self.bar = recipe, recipe.evaluation, bar
        self.tasks, self.better = scoring
        self.folder = Path(recipe.output_dir)
        self.watch, self.asking = Watch(), asking_of(recipe)

    def attach(self, trainer: AlignmentTrainer, checkpoint: Path | None, *, new_figures: bool = False) -> None:
        """Score this trainer's policy. checkpoint: the one that the run resumes from, or None.

        new_figures: settings have changed since, so that earlier values cannot be compared.
        """
        self.trainer = trainer
        if checkpoint is not None and (checkpoint / FILE).is_file():
            with explain_unreadable(checkpoint):
                self.watch = Watch(**json.loads((checkpoint / FILE).read_text(encoding="utf-8")))
                self.watch.go_on(self.config, self.better, new_figures=new_figures)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self._score(state, control)
        self._stop_if_due(state, control)  # the checkpoint may be that of an early stop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.config.every == 0 or state.global_step == state.max_steps:
            self._score(state, control)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self._judge(state, control, metrics or {})

    def save_into(self, checkpoint: Path) -> None:
        """Write what was best so far."""
        write_text(checkpoint / FILE, json.dumps(self.watch.as_json()) + "\n")

    def _score(self, state: TrainerState, control: TrainerControl) -> None:
        if not self.tasks:
            return
        figures: dict[str, float] = {}
        for task in self.tasks:
            records = self._answers(task, state.global_step)
            summary = summarise(task, records)
            figures |= figures_of(summary)
            if self.trainer.is_world_process_zero():
                path = self._step_folder(state.global_step) / f"{task.name}.json"
                write_summary(path, task, records, self._origin(state.global_step))
                self.bar.print_line(f"Step {state.global_step}  {task.name}: {headline(summary)}")
        overall = {name: value for name, value in figures.items() if name.count("/") == 1 or name in self.better}
        due = control.should_log
        self.trainer.log(overall)
        control.should_log = due  # the step's own figures are not logged yet
        self._judge(state, control, figures)

    def _judge(self, state: TrainerState, control: TrainerControl, figures: dict[str, float]) -> None:
        if self.watch.judge(self.config, self.better, state.global_step, figures):
            self._keep_best(state.global_step)
        self._stop_if_due(state, control)

    def _stop_if_due(self, state: TrainerState, control: TrainerControl) -> None:
        if self.watch.stopped is not None and not control.should_training_stop:
            control.should_training_stop = True
            control.should_save = control.should_save or self.recipe.save_steps is not None  # as after the last step
            self.bar.print_line(f"Stopped at step {state.global_step}: {self.watch.stopped}")

    def _answers(self, task: Task, step: int) -> list[Record]:
        """The policy's answers to all items, in their order; every process answers those on its share of the images."""
        images = {image: n for n, image in enumerate(dict.fromkeys(item.image_id for item in task.items))}
        world, index = self.trainer.args.world_size, self.trainer.args.process_index
        mine = [i for i, item in enumerate(task.items) if images[item.image_id] % world == index]
        model, processor = self.trainer.model, self.trainer.processor
        assert model is not None
        path = self._step_folder(step) / f"{task.name}.jsonl"
        if self.trainer.is_world_process_zero():
            with explain_disk_errors(self.folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
        found: list[Record] = []
        with self.trainer.engine.autocast(), self.bar.counting(task.name, len(mine)) as progress:
            for records in ask(model, processor, task, mine, asking=self.asking, batch_size=self.config.batch_size):
                found += records
                progress(len(found))
        by_id = {r.id: r for records in self.trainer.engine.gather(found) for r in records}
        everything = [by_id[item.id] for item in task.items]
        if self.trainer.is_world_process_zero():
            append(path, everything, self._origin(step))
        return everything

    def _keep_best(self, step: int) -> None:
        """Write model or adapter, processor and a card to OUTPUT/best; the old ones stay until the new are whole."""
        folder, aside = self.folder / BEST, self.folder / f".{BEST}.part"
        with explain_disk_errors(self.folder):
            self.trainer.save_model(str(aside))
            if not self.trainer.is_world_process_zero():
                return
            card = {"base_model": self.recipe.model.name, "step": step, str(self.config.best): self.watch.best}
            write_text(aside / RUN_CARD, json.dumps(card, indent=2) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)

    def _step_folder(self, step: int) -> Path:
        return self.folder / SCORES / f"step-{step}"

    def _origin(self, step: int) -> dict[str, Any]:
        return {"run": str(self.folder), "step": step, **self.asking.fields()}


class Scoring(NamedTuple):
    """What a run scores while it trains, and which way each watched figure is better."""

    tasks: list[Task]
    better: dict[str, Better]


def scoring_of(recipe: Recipe, *, held_out: bool, rewards: Mapping[str, float]) -> Scoring | None:
    """What the recipe asks for, or None; known before anything is loaded.

    held_out: whether the run evaluates on held-out rows as it goes. rewards: name → weight, of sampled completions.
    Raises `RecipeError` for a task that does not exist, or a figure that this run will not have.
    """
    config = recipe.evaluation
    if not config.tasks and config.best is None and not config.limits:
        return None
    data = Path(config.data) if config.data is not None else None
    tasks = [task for name in config.tasks for task in named_tasks(name, data)]
    tasks = [replace(task, items=task.items[: config.limit], baselines={}) for task in tasks]
    better: dict[str, Better] = {}
    for name in (config.best, *config.limits):
        if name is not None and name.startswith("eval_"):
            better[name] = _of_held_out(name, recipe, held_out, rewards)
        elif name is not None:
            better[name] = _of_tasks(name, tasks)
    return Scoring(tasks, better)


def _of_held_out(name: str, recipe: Recipe, held_out: bool, rewards: Mapping[str, float]) -> Better:
    if not held_out:
        raise RecipeError(
            f"`evaluation` watches `{name}`, a figure of held-out rows, but none are evaluated while training. "
            "Give `data.val_size` (or `data.eval_source`) and `eval_steps`."
        )
    try:
        return better_side(name, recipe.objective, rewards, samples=recipe.samples_completions)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def _of_tasks(name: str, tasks: Sequence[Task]) -> Better:
    known: dict[str, Any] = {}
    for task in tasks:
        groups = dict.fromkeys(group for item in task.items for group in item.groups)
        for metric in task.metrics:
            names = [f"{task.name}/{metric.name}", *(f"{task.name}/{group}/{metric.name}" for group in groups)]
            known |= dict.fromkeys(names, metric.better)
    if known.get(name, "neither") == "neither":
        judged = [n for n, better in known.items() if n.count("/") == 1 and better != "neither"]
        raise RecipeError(f"`evaluation` watches `{name}`, which no task here has. Known: {', '.join(judged)}.")
    return known[name]


def figures_of(summary: Summary) -> dict[str, float]:
    """`<task>/<metric>` over all items, and `<task>/<group>/<metric>`."""
    task = summary.task.name
    return {
        f"{task}/{metric}" if group == OVERALL else f"{task}/{group}/{metric}": interval.value
        for group, row in summary.figures.items()
        for metric, interval in row.items()
    }


def headline(summary: Summary) -> str:
    """The first figures in one line."""
    shown = [m for m in summary.task.metrics if m.name in summary.figures[OVERALL] and m.better != "neither"][:5]
    return "  ".join(f"{m.label} {summary.overall(m.name).value:.1f}" for m in shown)
