"""Asking a model every item of a task: greedy, in batches, each answer written down as it comes."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.evaluation.asking import PLAIN, Asking
from sightline.evaluation.one_image import Asked, Renders, answer, can_read_in_parts
from sightline.evaluation.record import Record, append, read, records_of, rescored
from sightline.evaluation.task import Task
from sightline.forward.features import encode_as_it_is
from sightline.generation.generate import generate
from sightline.generation.text import CompletionText
from sightline.models.families.find import family_of
from sightline.types import Group

Progress = Callable[[int, int], None]
"""Called with how many items are answered so far, and how many there are."""

BATCHES_AT_ONCE = 8
"""Batches rendered together: prompts of one length then meet in one batch, and few images are in memory."""


def evaluate(
    model: nn.Module,
    processor: ProcessorMixin,
    task: Task,
    *,
    path: Path | None = None,
    origin: dict[str, Any] | None = None,
    asking: Asking = PLAIN,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> list[Record]:
    """Greedy answers to all items of the task, in the items' order.

    path: JSONL that answers are appended to; those it already holds are not asked again. origin: model, adapter and
    versions, written into every row with the task's prompt and length; rows there of another origin raise `DataError`.
    asking: with which system turn and tokens.
    """
    origin = {**(origin or {}), **asking.fields(), "prompt": task.prompt, "max_new_tokens": task.max_new_tokens}
    if task.at_once > 1:
        origin["scored_by"] = task.title  # the judge, whose grades are kept
    done = {r.id: r for r in rescored(task, read(path, origin))} if path is not None else {}
    missing = [i for i, item in enumerate(task.items) if item.id not in done]
    for records in ask(model, processor, task, missing, asking=asking, batch_size=batch_size):
        if path is not None:
            append(path, records, origin)
        done.update((r.id, r) for r in records)
        if progress is not None:
            progress(len(done), len(task.items))
    return [done[item.id] for item in task.items]


def ask(
    model: nn.Module,
    processor: ProcessorMixin,
    task: Task,
    numbers: Sequence[int],
    *,
    asking: Asking = PLAIN,
    batch_size: int,
) -> Iterator[list[Record]]:
    """Answers to the items of these numbers, some at a time, image by image.

    Questions on one image share its features and, where the model is causal, the part of the prompt that it stands
    in. Raises `DataError` naming the item whose image cannot be read.
    """
    family = family_of(model)
    renders, text_of = Renders(asking.renderer(processor), family), CompletionText.of(processor, family)
    for part in _parts(task, numbers, batch_size):
        together, apart = _split(task, asking, part, renders)
        answers = _answer_together(model, processor, task, together, batch_size)
        answers.update(_answer_apart(model, processor, task, apart, batch_size))
        yield records_of(task, [(task.items[i], text_of(answers[i]).strip()) for i in part])


def _parts(task: Task, numbers: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """The numbers image by image, cut into some batches each: few images are then in memory at a time."""
    by_image: dict[str, list[int]] = {}
    for i in numbers:
        by_image.setdefault(task.items[i].image_id, []).append(i)
    part: list[int] = []
    for members in by_image.values():
        part += members
        if len(part) >= batch_size * BATCHES_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _split(
    task: Task, asking: Asking, part: list[int], renders: Renders
) -> tuple[dict[tuple[int, ...], Asked], dict[tuple[int, ...], list[Group]]]:
    """By the numbers of the questions on an image: those that are read in parts, and whole prompts of the others."""
    together: dict[tuple[int, ...], Asked] = {}
    apart: dict[tuple[int, ...], list[Group]] = {}
    for _, members in groupby(part, key=lambda i: task.items[i].image_id):
        on_image = tuple(members)
        examples = [asking.example(task.example(task.items[i], i)) for i in on_image]
        asked = renders.asked(examples) if len(on_image) > 1 else None
        if asked is None:
            apart[on_image] = [renders.renderer.prompt(example) for example in examples]
        elif can_read_in_parts(renders.family, asked, task.max_new_tokens):
            together[on_image] = asked
        else:
            apart[on_image] = renders.prompts(asked)
    return together, apart


def _answer_apart(
    model: nn.Module,
    processor: ProcessorMixin,
    task: Task,
    apart: dict[tuple[int, ...], list[Group]],
    batch_size: int,
) -> dict[int, Tensor]:
    """Answers by item number, each prompt read whole; several on one image share what the tower makes of it."""
    answers: dict[int, Tensor] = {}
    for several in (False, True):
        chosen = {members: groups for members, groups in apart.items() if (len(members) > 1) == several}
        features = encode_as_it_is(model, [groups[0] for groups in chosen.values()]) if several else None
        if features is not None:
            owners = [[place] * len(members) for place, members in enumerate(chosen)]
            features = features.select(list(chain(*owners)))
        said = generate(
            model,
            processor,
            list(chain(*chosen.values())),
            max_new_tokens=task.max_new_tokens,
            batch_size=batch_size,
            features=features,
        )
        answers.update((i, one[0]) for i, one in zip(chain(*chosen), said, strict=True))
    return answers


def _answer_together(
    model: nn.Module, processor: ProcessorMixin, task: Task, together: dict[tuple[int, ...], Asked], batch_size: int
) -> dict[int, Tensor]:
    """Answers by item number, about `batch_size` questions at a time, images of like length together."""
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
