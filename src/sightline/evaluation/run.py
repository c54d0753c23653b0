"""Asking a model every item of a task: greedy, in batches, each answer written down as it comes."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.data.render import Renderer
from sightline.evaluation.one_picture import Asked, Renders, answer, can_share
from sightline.evaluation.record import Record, append, read, records_of, rescored
from sightline.evaluation.summary import summarise
from sightline.evaluation.task import Task
from sightline.policy.families import family_of
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
    if task.at_once > 1:
        origin["scored_by"] = task.title  # the judge, whose grades are kept
    done = {r.id: r for r in rescored(task, read(path, origin))} if path is not None else {}
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
    """Answers to the items of these numbers, some at a time, picture by picture.

    Questions on one picture share it, and the part of the prompt that it stands in, where the model is causal. Raises
    `DataError` naming the item whose picture cannot be read.
    """
    renderer = Renderer(processor)
    renders = Renders(renderer, family_of(model)) if can_share(model) else None
    for part in _parts(task, numbers, batch_size):
        together, apart = _split(task, part, renders)
        answers = _answer_together(model, processor, task, together, batch_size)
        groups = [renderer.prompt(task.example(task.items[i], i)) for i in apart]
        said = generate(model, processor, groups, max_new_tokens=task.max_new_tokens, batch_size=batch_size)
        answers.update((i, one[0]) for i, one in zip(apart, said, strict=True))
        texts = processor.tokenizer.batch_decode([answers[i] for i in part], skip_special_tokens=True)
        yield records_of(task, [(task.items[i], text.strip()) for i, text in zip(part, texts, strict=True)])


def _parts(task: Task, numbers: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """The numbers picture by picture, cut into some batches each: few pictures are then in memory at a time."""
    by_picture: dict[str, list[int]] = {}
    for i in numbers:
        by_picture.setdefault(task.items[i].picture_id, []).append(i)
    part: list[int] = []
    for members in by_picture.values():
        part += members
        if len(part) >= batch_size * BATCHES_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _split(task: Task, part: list[int], renders: Renders | None) -> tuple[dict[tuple[int, ...], Asked], list[int]]:
    """The questions that share a picture with others, by their numbers; and those that are asked each for itself."""
    together: dict[tuple[int, ...], Asked] = {}
    apart: list[int] = []
    for _, members in groupby(part, key=lambda i: task.items[i].picture_id):
        on_picture = tuple(members)
        examples = [task.example(task.items[i], i) for i in on_picture]
        asked = renders.asked(examples) if renders is not None and len(on_picture) > 1 else None
        if asked is None:
            apart += on_picture
        else:
            together[on_picture] = asked
    return together, apart


def _answer_together(
    model: nn.Module, processor: ProcessorMixin, task: Task, together: dict[tuple[int, ...], Asked], batch_size: int
) -> dict[int, Tensor]:
    """Answers by item number, about `batch_size` questions at a time, pictures of like length together."""
    answers: dict[int, Tensor] = {}
    batch: list[tuple[int, ...]] = []
    ordered = sorted(together, key=lambda members: -len(together[members].shared.prompt_ids))
    for place, members in enumerate(ordered):
        batch.append(members)
        if sum(map(len, batch)) >= batch_size or place == len(ordered) - 1:
            said = answer(model, processor, [together[m] for m in batch], max_new_tokens=task.max_new_tokens)
            answers.update(zip(chain(*batch), chain(*said), strict=True))
            batch = []
    return answers


def write_summary(path: Path, task: Task, records: Sequence[Record], origin: dict[str, Any]) -> None:
    """The task's figures with intervals as one JSON file, whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    found = {"origin": origin, **summarise(task, records).as_json()}
    unfinished.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
