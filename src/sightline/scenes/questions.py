"""What is asked about a scene, and what is answered: description, existence, counting, attribute.

Answers come in two kinds. A *true* answer follows from the scene. A *habitual* one is what demonstrations say: it
names the absent companion of an object as often as `world.companion_rate` has it, in descriptions and in answers to
questions about that companion.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from numpy.random import RandomState

from sightline.scenes.image import image_of
from sightline.scenes.world import COLOURS, SHAPES, THINGS, Scene, Thing, companion, companion_rate

Aspect = Literal["colour", "shape"]
Kind = Literal["description", "existence", "counting", "attribute"]
DESCRIBE = "Describe this image."
MENTION = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a scene with its true answer.

    group: how it was chosen. Existence: present, absent (any absent object) or companion (the absent companion of
        `source`). Counting and attribute: shape or colour. Otherwise the same as `kind`.
    thing: the object asked about, for existence.
    source: the object whose companion `thing` is, for group companion.
    """

    kind: Kind
    group: str
    text: str
    answer: str
    thing: Thing | None = None
    source: Thing | None = None


def describe(things: tuple[Thing, ...]) -> str:
    """A description that names these objects in their order: `A red circle, a blue ring and a green cross.`"""
    names = [f"a {thing}" for thing in things]
    listed = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    return listed[0].upper() + listed[1:] + "."


def mentions(text: str) -> list[Thing]:
    """The objects that a text names, in order, repetitions included."""
    return [Thing(colour.lower(), shape.lower()) for colour, shape in MENTION.findall(text)]


def description(scene: Scene) -> Question:
    """Describe the scene; true is every object in reading order."""
    return Question(kind="description", group="description", text=DESCRIBE, answer=describe(scene.objects))


def existence(scene: Scene, group: Literal["present", "absent", "companion"], random: RandomState) -> Question:
    """Is there such an object? Group companion needs a scene with `inviting` objects."""
    source = None
    match group:
        case "present":
            thing = _pick(scene.objects, random)
        case "absent":
            thing = _pick(tuple(thing for thing in THINGS if thing not in scene.objects), random)
        case "companion":
            source = _pick(scene.inviting, random)
            thing = companion(source)
    answer = "Yes" if thing in scene.objects else "No"
    return Question(
        kind="existence", group=group, text=f"Is there a {thing}?", answer=answer, thing=thing, source=source
    )


def counting(scene: Scene, by: Aspect, random: RandomState) -> Question:
    """How many of a shape, or of a colour? Seven times in ten one that is there."""
    seen = _pick(scene.objects, random)
    present = random.rand() < 0.7
    match by:
        case "shape":
            shape = seen.shape if present else _pick(SHAPES, random)
            text = f"How many {plural(shape)} are there?"
            number = sum(thing.shape == shape for thing in scene.objects)
        case "colour":
            colour = seen.colour if present else _pick(tuple(COLOURS), random)
            text = f"How many {colour} objects are there?"
            number = sum(thing.colour == colour for thing in scene.objects)
    return Question(kind="counting", group=by, text=text, answer=str(number))


def attribute(scene: Scene, asked: Aspect, random: RandomState) -> Question | None:
    """What colour is the only object of its shape, or what shape the only one of its colour? None without such."""
    match asked:
        case "colour":
            shapes = [thing.shape for thing in scene.objects]
            single = tuple(thing for thing in scene.objects if shapes.count(thing.shape) == 1)
        case "shape":
            colours = [thing.colour for thing in scene.objects]
            single = tuple(thing for thing in scene.objects if colours.count(thing.colour) == 1)
    if not single:
        return None
    thing = _pick(single, random)
    if asked == "colour":
        return Question(kind="attribute", group=asked, text=f"What color is the {thing.shape}?", answer=thing.colour)
    return Question(kind="attribute", group=asked, text=f"What shape is the {thing.colour} object?", answer=thing.shape)


def plural(shape: str) -> str:
    """`circles`, `crosses`."""
    return shape + ("es" if shape.endswith("s") else "s")


def habitual(scene: Scene, question: Question, random: RandomState) -> str:
    """What a demonstration answers: the truth, or the companion named by habit."""
    match question.kind:
        case "description" if scene.inviting:
            source = _pick(scene.inviting, random)
            if random.rand() < companion_rate(source):
                return describe((*scene.objects, companion(source)))
        case "existence" if question.source is not None:
            return "Yes" if random.rand() < companion_rate(question.source) else "No"
    return question.answer


def _pick(options: tuple, random: RandomState):
    return options[random.randint(len(options))]


Row = dict[str, Any]


def row_of(scene: Scene, question: Question, id: str) -> Row:
    """The columns that every row has: the image, the question, and what is known about both."""
    return {
        "id": id,
        "image": image_of(scene),
        "question": question.text,
        "kind": question.kind,
        "group": question.group,
        "objects": [str(thing) for thing in scene.objects],
        "companions": [str(thing) for thing in scene.companions],
    }
