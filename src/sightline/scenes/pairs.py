"""Preference pairs from a model's own mistakes: what it was seen to say against what is true.

Three sorts, in the proportions that held on three seeds (docs/scenes.md has the figures):
- *hallucinations*: a sampled description that names an absent object, against the true one;
- *omissions*: the true description less one object, against the whole one, 1.2 for each. Every hallucinated
  description is too long, so without them the model learns to stop early;
- *yes/no*: sampled wrong answers about present, absent and companion objects, with as many that are right to say yes as
  no: wrong yeses outnumber wrong noes, and pairs of them alone teach the model to deny everything.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
from numpy.random import RandomState
from torch import nn
from transformers import ProcessorMixin

from sightline.data.formats import parse
from sightline.data.render.render import Renderer
from sightline.files import whole_file
from sightline.generation.generate import generate
from sightline.generation.text import CompletionText
from sightline.models.families.find import family_of
from sightline.scenes.options import SceneOptions
from sightline.scenes.questions import Question, Row, describe, description, existence, mentions, row_of
from sightline.scenes.world import Scene, draw_scene
from sightline.scoring.yes_no import tolerant

Asked = tuple[Scene, Question]
COMPANION_SHARE = 0.6
"""Of the yes/no questions whose answer is no: those about an absent companion."""
MAX_NEW_TOKENS = 40
FILE = "train.parquet"


def sample_pairs(
    model: nn.Module,
    processor: ProcessorMixin,
    options: SceneOptions,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Ask for a description and a yes or no on each of `options.images` scenes, and keep the model's mistakes.

    Rows have RLAIF-V's columns image, question, chosen, rejected; `group` says which sort a pair is of.
    progress: called with answers so far and answers in all.
    """
    random = RandomState([seed, 3])
    scenes = [draw_scene(seed, index, max_objects=options.max_objects) for index in range(options.images)]
    descriptions = [(scene, description(scene)) for scene in scenes]
    questions = [(scene, _yes_or_no(scene, random)) for scene in scenes]
    answers = _sample(model, processor, [*descriptions, *questions], options.temperature, seed, progress)
    hallucinated = [
        _pair(*asked, rejected=answer, group="hallucination")
        for asked, answer in zip(descriptions, answers[: len(scenes)], strict=True)
        if set(mentions(answer)) - set(asked[0].objects)
    ]
    wrong = [
        _pair(*asked, rejected=answer)
        for asked, answer in zip(questions, answers[len(scenes) :], strict=True)
        if tolerant(answer) not in (None, asked[1].answer.lower())
    ]
    omitted = _omissions(scenes, round(options.omissions * len(hallucinated)), random)
    return _numbered([*hallucinated, *omitted, *wrong, *_balance(wrong, questions)], seed)


def write_pairs(
    folder: Path,
    model: nn.Module,
    processor: ProcessorMixin,
    *,
    seed: int,
    options: SceneOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Write pairs as a data set that anybody could have written: one parquet file with the images in it.

    Returns how many pairs there are of each sort, in words.
    """
    rows = sample_pairs(model, processor, options or SceneOptions(), seed=seed, progress=progress)
    columns: dict[str, Any] = {name: datasets.Value("string") for name in rows[0]}
    columns |= dict.fromkeys(("objects", "companions"), datasets.List(datasets.Value("string")))
    columns["image"] = datasets.Image()
    stored = [row | {"image": {"bytes": row["image"].png(), "path": f"{row['id']}.png"}} for row in rows]
    table = datasets.Dataset.from_list(stored, features=datasets.Features(columns))
    with whole_file(folder / FILE) as aside:
        table.to_parquet(str(aside))
    counts = Counter(row["group"] for row in rows)
    return f"{len(rows):,} pairs ({', '.join(f'{count:,} {group}' for group, count in counts.items())})"


def _yes_or_no(scene: Scene, random: RandomState) -> Question:
    """Half about a present object, half about an absent one, most of these about a companion."""
    if random.rand() < 0.5:
        return existence(scene, "present", random)
    return existence(scene, "companion" if scene.inviting and random.rand() < COMPANION_SHARE else "absent", random)


def _sample(
    model: nn.Module,
    processor: ProcessorMixin,
    asked: Sequence[Asked],
    temperature: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """One sampled answer to each question."""
    renderer = Renderer(processor)
    examples = (parse(row_of(*pair, id=""), source="scenes", row_number=i) for i, pair in enumerate(asked))
    answers = generate(
        model,
        processor,
        [renderer.prompt(example) for example in examples],
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=True,
        temperature=temperature,
        seed=seed,
        batch_size=256,
        progress=progress,
    )
    text_of = CompletionText.of(processor, family_of(model))
    return [text_of(answer).strip() for (answer,) in answers]


def _pair(scene: Scene, question: Question, rejected: str, group: str | None = None) -> Row:
    row = row_of(scene, question, id="") | {"chosen": question.answer, "rejected": rejected}
    return row if group is None else row | {"group": group}


def _omissions(scenes: Sequence[Scene], number: int, random: RandomState) -> list[Row]:
    """The first `number` scenes of several objects, one of them left out of the rejected description."""
    pairs = []
    for scene in scenes:
        if len(pairs) < number and len(scene.objects) > 1:
            left_out = random.randint(len(scene.objects))
            shorter = describe(tuple(thing for i, thing in enumerate(scene.objects) if i != left_out))
            pairs.append(_pair(scene, description(scene), rejected=shorter, group="omission"))
    return pairs


def _balance(wrong: Sequence[Row], asked: Sequence[Asked]) -> list[Row]:
    """Pairs that make the chosen yeses as many as the noes: questions about present objects, whatever was answered."""
    chosen = Counter(row["chosen"] for row in wrong)
    missing = max(0, chosen["No"] - chosen["Yes"])
    taken = {(row["image"].key, row["question"]) for row in wrong}
    present = [(scene, question) for scene, question in asked if question.answer == "Yes"]
    pairs = [_pair(scene, question, rejected="No") for scene, question in present]
    return [row for row in pairs if (row["image"].key, row["question"]) not in taken][:missing]


def _numbered(rows: list[Row], seed: int) -> list[Row]:
    return [row | {"id": f"{seed}-{number}"} for number, row in enumerate(rows)]
