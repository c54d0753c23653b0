"""Scenes as the rows of a data set: demonstrations, pairs or prompts, for `data: {source: scenes}` and for Python.

Demonstrations and prompts are drawn when they are read, so that a hundred thousand rows cost nothing and pickle into
workers. Rows on one image follow one another: with `data.share_images` they are one group. Pairs need a model to
sample from, see `pairs`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, get_args

from numpy.random import RandomState

from sightline.config.data import DataConfig
from sightline.config.online_objectives import OnlineObjectiveConfig
from sightline.config.refusal import default
from sightline.errors import RecipeError
from sightline.scenes.options import RowKind, SceneOptions, scene_options
from sightline.scenes.pairs import sample_pairs
from sightline.scenes.questions import (
    Aspect,
    Kind,
    Question,
    attribute,
    counting,
    description,
    existence,
    habitual,
    row_of,
)
from sightline.scenes.world import Scene, draw_scene

PLACES: tuple[Kind, ...] = (
    "description", "existence", "existence", "existence", "counting", "counting", "attribute", "attribute",
)  # fmt: skip
"""Questions on every image, each a row, by kind."""
QUESTIONS = len(PLACES)

DEMONSTRATED = ("sft", "dft")
"""Objectives that read demonstrations."""
SAMPLED = tuple(default(option, "type") for option in get_args(OnlineObjectiveConfig))
"""Objectives that sample their own answers."""


def for_recipe(config: DataConfig, objective_type: str, *, model: Any = None, processor: Any = None) -> Sequence[dict]:
    """The rows that a recipe with `data: {source: scenes}` trains on.

    model, processor: answer the questions that pairs are made of. Raises `RecipeError` for options that do not exist.
    """
    options = scene_options(config.scenes)
    kind = options.kind or _kind_for(objective_type)
    rows = draw_rows(kind, options, seed=config.seed, model=model, processor=processor)
    return rows if config.limit is None else rows[: config.limit]


def draw_rows(
    kind: RowKind, options: SceneOptions, *, seed: int, model: Any = None, processor: Any = None
) -> Sequence[dict[str, Any]]:
    """Rows of a kind. Pairs are sampled here and now; raises `RecipeError` where there is no model to sample from."""
    if kind != "pairs":
        return SceneRows(kind, options, seed=seed)
    if model is None or processor is None:
        raise RecipeError("Pairs of scenes are made of a model's own answers: give the model and its processor.")
    return sample_pairs(model, processor, options, seed=seed)


def _kind_for(objective_type: str) -> RowKind:
    if objective_type in DEMONSTRATED:
        return "demonstrations"
    return "prompts" if objective_type in SAMPLED else "pairs"


class SceneRows(Sequence):
    """`options.images` × 8 rows, drawn when read: columns image, question, answer or solution, and what is known.

    The same seed, number and options give the same row. A slice is a `SceneRows` too.
    """

    def __init__(self, kind: RowKind, options: SceneOptions, *, seed: int, numbers: range | None = None) -> None:
        self.kind: RowKind = kind
        self.options, self.seed = options, seed
        wanted = options.questions if kind == "prompts" else PLACES
        self.places = [place for place, asked in enumerate(PLACES) if asked in wanted]
        self.numbers = numbers if numbers is not None else range(options.images * len(self.places))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return SceneRows(self.kind, self.options, seed=self.seed, numbers=self.numbers[index])
        image, asked = divmod(self.numbers[index], len(self.places))
        place = self.places[asked]
        number = image * QUESTIONS + place
        progress = image / self.options.images
        max_objects = self._max_objects(progress)
        scene = _scene(self.seed, image, max_objects)
        random = RandomState([self.seed, number, 2])
        single = max_objects == 1 and self.kind == "demonstrations"
        question = _ask_single(scene, place, random) if single else _ask(scene, place, random)
        row = row_of(scene, question, f"{self.seed}-{number}")
        if self.kind == "prompts":
            return row | {"solution": question.answer}
        follows_habit = progress >= (
            self.options.description_habits_from
            if question.kind == "description"
            else self.options.existence_habits_from
        )
        return row | {"answer": habitual(scene, question, random) if follows_habit else question.answer}

    def _max_objects(self, progress: float) -> int:
        if not self.options.curriculum:
            return self.options.max_objects
        return min(self.options.max_objects, 1 + sum(progress >= share for share in self.options.curriculum))


@lru_cache(maxsize=8)
def _scene(seed: int, index: int, max_objects: int) -> Scene:
    """Rows on one image follow one another: it is laid out once for all of them."""
    return draw_scene(seed, index, max_objects=max_objects)


def _ask_single(scene: Scene, place: int, random: RandomState) -> Question:
    """While all scenes are of one object: what it is, in descriptions and attributes. Shapes are learned sooner so."""
    asked = description(scene) if place % 2 == 0 else attribute(scene, _aspect(random), random)
    assert asked is not None, "the only object is the only one of its shape and colour"
    return asked


def _ask(scene: Scene, place: int, random: RandomState) -> Question:
    """The question in this place of an image's eight; where a kind does not fit the scene, existence stands in.

    Shapes are asked for more often than colours, because finding an object by its shape is learned later.
    """
    match place:
        case 0:
            return description(scene)
        case 1:
            return existence(scene, "present", random)
        case 2:
            return existence(scene, "absent", random)
        case 3:
            return existence(scene, "companion" if scene.inviting else "absent", random)
        case 4:
            return counting(scene, "shape", random)
        case 5:
            return counting(scene, _aspect(random), random)
        case 6:
            asked = attribute(scene, "colour", random)
        case _:
            asked = attribute(scene, _aspect(random), random)
    return asked or existence(scene, "present", random)


def _aspect(random: RandomState) -> Aspect:
    return "colour" if random.rand() < 0.5 else "shape"
