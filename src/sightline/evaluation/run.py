"""Asking a model every item of a task: greedy, in batches, each answer written down as it comes."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import ProcessorMixin

from sightline.data.render import Renderer
from sightline.evaluation.record import Record, append, read, record
from sightline.evaluation.summary import summarise
from sightline.evaluation.task import Task
from sightline.policy.generate import generate

Progress = Callable[[int, int], None]
"""Called with how many items are answered so far, and how many there are."""

BATCHES_AT_ONCE = 8
"""Batches rendered together: prompts of one length then meet in one batch, and few pictures are in memory."""


def evaluate(
    model: nn.Module,
    processor: ProcessorMixin,
    task: Task,
    *,
    path: Path | None = None,
    origin: dict[str, Any] | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> list[Record]:
    """Greedy answers to all items of the task, in the items' order.

    path: JSONL that answers are appended to; those it already holds are not asked again. origin: model, adapter and
    versions, written into every row with the task's prompt and length; rows there of another origin raise `DataError`.
    """
    origin = {**(origin or {}), "prompt": task.prompt, "max_new_tokens": task.max_new_tokens}
    done = {r.id: r for r in read(path, origin)} if path is not None else {}
    missing = [i for i, item in enumerate(task.items) if item.id not in done]
    for records in ask(model, processor, task, missing, batch_size=batch_size):
        if path is not None:
            append(path, records, origin)
        done.update((r.id, r) for r in records)
        if progress is not None:
            progress(len(done), len(task.items))
    return [done[item.id] for item in task.items]


def ask(
    model: nn.Module, processor: ProcessorMixin, task: Task, numbers: Sequence[int], *, batch_size: int
) -> Iterator[list[Record]]:
    """Answers to the items of these numbers, some batches at a time.

    Raises `DataError` naming the item whose picture cannot be read.
    """
    renderer = Renderer(processor)
    at_once = batch_size * BATCHES_AT_ONCE
    for start in range(0, len(numbers), at_once):
        items = {i: task.items[i] for i in numbers[start : start + at_once]}
        groups = [renderer.prompt(task.example(item, i)) for i, item in items.items()]
        answers = generate(model, processor, groups, max_new_tokens=task.max_new_tokens, batch_size=batch_size)
        texts = processor.tokenizer.batch_decode([a[0] for a in answers], skip_special_tokens=True)
        yield [record(task, item, text.strip()) for item, text in zip(items.values(), texts, strict=True)]


def write_summary(path: Path, task: Task, records: Sequence[Record], origin: dict[str, Any]) -> None:
    """The task's figures with intervals as one JSON file, whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    found = {"origin": origin, **summarise(task, records).as_json()}
    unfinished.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
