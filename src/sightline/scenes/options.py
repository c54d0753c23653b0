"""Options of the `scenes` source: the group `data.scenes` of a recipe."""

from dataclasses import field, fields
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sightline.config.numbers import Real, Whole, expected_number
from sightline.config.strict import STRICT
from sightline.errors import RecipeError, did_you_mean, shown
from sightline.scenes.questions import Kind
from sightline.scenes.world import MAX_OBJECTS

RowKind = Literal["demonstrations", "pairs", "prompts"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SceneOptions:
    """What is drawn and asked. Options of demonstrations do nothing to pairs and prompts, and the other way round."""

    kind: RowKind | None = None
    """demonstrations: question and answer · pairs: chosen and rejected, from the model's own mistakes ·
    prompts: question and `solution`. Left out: what the objective needs."""
    images: Whole = Field(default=2500, ge=1, le=10**7)
    """Images drawn."""
    max_objects: Whole = Field(default=MAX_OBJECTS, ge=1, le=MAX_OBJECTS)
    """Most objects in an image."""
    curriculum: list[Annotated[Real, Field(ge=0, le=1)]] = field(default_factory=list)
    """Demonstrations: shares of the images at which scenes grow by one object, starting at one; [] starts full."""
    description_habits_from: Real = Field(default=0.0, ge=0, le=1)
    """Demonstrations: share of the images after which descriptions name absent companions; 1 is never."""
    existence_habits_from: Real = Field(default=0.0, ge=0, le=1)
    """Demonstrations: the same for yes/no questions about companions."""
    questions: list[Kind] = Field(default_factory=lambda: list(get_args(Kind)), min_length=1)
    """Prompts: kinds of questions that are asked; of the eight on an image description is one, existence three,
    counting and attribute two each."""
    omissions: Real = Field(default=1.2, ge=0, le=1000)
    """Pairs: descriptions that lack an object, as rejected answers, for each hallucinated one."""
    temperature: Real = Field(default=1.0, gt=0, le=100)
    """Pairs: temperature that the model's answers are sampled at."""


def scene_options(given: dict[str, Any]) -> SceneOptions:
    """Check `data.scenes`. Raises `RecipeError` naming the option and the nearest valid one."""
    names = [f.name for f in fields(SceneOptions)]
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names, f"Known: {', '.join(names)}.", written="{}")
            raise RecipeError(f"data.scenes.{name}: there is no such option of the scenes source. {hint}")
    try:
        return TypeAdapter(SceneOptions).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        expected = expected_number(SceneOptions.__pydantic_fields__[where]) if where in names else None
        got, why = shown(first["input"]), expected or f"{first['msg']}."
        raise RecipeError(f"data.scenes.{where}: `{got}` cannot be. {why} See docs/scenes.md.") from None
