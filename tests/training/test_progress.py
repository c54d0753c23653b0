"""What a run says of its steps: every figure reaches a terminal without a cursor, too."""

import io

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from sightline.training.watch.progress import ProgressBar


@pytest.mark.parametrize("terminal", [True, False], ids=["TERM=dumb", "a file"])
def test_the_last_figures_are_printed_where_there_is_no_cursor(terminal, monkeypatch, tmp_path):
    monkeypatch.setenv("TERM", "dumb")
    said = io.StringIO()
    bar = ProgressBar(Console(file=said, force_terminal=terminal, width=100))
    args, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    state = TrainerState(max_steps=40, is_local_process_zero=True)
    bar.on_train_begin(args, state, control)
    for step in range(1, 41):
        state.global_step = step
        bar.on_step_end(args, state, control)
        if step % 20 == 0:
            bar.on_log(args, state, control, logs={"loss": 1 / step})  # a step is logged behind its end
    bar.on_train_end(args, state, control)
    bar.on_train_end(args, state, control)
    lines = said.getvalue().splitlines()
    assert "Training 2/40" in lines[0] and "Training 40/40  loss 0.05" in lines[-2]
    assert lines[-1].strip() == "Training 40/40  loss 0.025", "once"
