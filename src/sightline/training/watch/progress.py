"""The progress bar of a training run: steps, time left, and the numbers that tell whether it goes well."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SHOWN = {"loss": "loss", "rewards/accuracies": "accuracy", "rewards/margins": "margin", "reward": "reward"}


def bar(console: Console) -> Progress:
    """Sightline's progress bar, used by every long step."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        expand=True,
    )


class ProgressBar(TrainerCallback):
    """Draws a bar on a terminal; without a cursor prints a line about every twentieth of the run, and the last one."""

    def __init__(self, console: Console, description: str = "Training") -> None:
        self.console = console
        self.description = description
        self.progress: Progress | None = None
        self.figures = self.printed = ""

    def print_line(self, line: str) -> None:
        """Print a line of text above the bar."""
        self.console.print(line, highlight=False)

    @contextmanager
    def counting(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A second bar under the first while something else is done; call what it gives with how much is done."""
        if self.progress is None:
            yield lambda done: None
            return
        progress = self.progress
        task = progress.add_task(title, total=total, figures="")
        try:
            yield lambda done: progress.update(task, completed=done)
        finally:
            progress.remove_task(task)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_local_process_zero and self.console.is_terminal and not self.console.is_dumb_terminal:
            self.progress = bar(self.console)
            self.progress.start()
            self.task = self.progress.add_task(
                self.description, total=state.max_steps, completed=state.global_step, figures=""
            )

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        logs = logs or {}
        shown = [f"{name} {logs[key]:.3g}" for key, name in SHOWN.items() if key in logs]
        if shown:
            self.figures = "  ".join(shown)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=state.global_step, figures=self.figures)
        elif state.is_local_process_zero and state.global_step % max(state.max_steps // 20, 1) == 0:
            self._print_step(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=state.global_step, figures=self.figures)
            self.progress.stop()
            self.progress = None
        elif state.is_local_process_zero:
            self._print_step(state)  # the last step's figures are logged behind it

    def _print_step(self, state: TrainerState) -> None:
        """A line on a terminal without a cursor, or in a file; not the same one twice."""
        line = f"{self.description} {state.global_step}/{state.max_steps}  {self.figures}"
        if line != self.printed:
            self.console.print(line, highlight=False)
        self.printed = line
