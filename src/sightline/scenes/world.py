"""The scene world: images of coloured shapes, drawn from a seed, and the prior that makes models hallucinate.

A scene has 1 to 4 different objects, each a colour and a shape, in different cells of a 4 × 4 grid on an image of
64 × 64 pixels. It has a palette of 2 to 5 colours, so that objects often share theirs. Every object has one
*companion*: the object that demonstrations like to name beside it whether it is there or not, as captions from the web
name a fork beside a plate. Demonstrations mention the absent companion of some shapes (`HABITUAL`) four times in five
and of the others one time in four, so that greedy decoding hallucinates on many images and is right on the rest.

Everything is drawn by `numpy.random.RandomState`, whose stream is frozen: a seed gives the same scenes everywhere.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

GRID = 4
CELL = 16
SIDE = GRID * CELL
MAX_OBJECTS = 4
NOISE = 32

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "purple": (150, 50, 190),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
BACKGROUNDS = ((255, 255, 255), (235, 235, 235), (215, 220, 225))

HABITUAL = ("circle", "square", "triangle")
HABITUAL_RATE = 0.8
OCCASIONAL_RATE = 0.25


class Thing(NamedTuple):
    """One kind of object: a colour and a shape. Its text is its name in answers and questions."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


THINGS = tuple(Thing(colour, shape) for colour in COLOURS for shape in SHAPES)


def companion(thing: Thing) -> Thing:
    """The object that demonstrations name beside this one: the next colour, the shape after the next."""
    colours = tuple(COLOURS)
    colour = colours[(colours.index(thing.colour) + 1) % len(colours)]
    return Thing(colour, SHAPES[(SHAPES.index(thing.shape) + 2) % len(SHAPES)])


def companion_rate(thing: Thing) -> float:
    """How often demonstrations mention the absent companion of this object."""
    return HABITUAL_RATE if thing.shape in HABITUAL else OCCASIONAL_RATE


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scene: objects in reading order with the cells that they stand in, and the seed of its pixels."""

    objects: tuple[Thing, ...]
    cells: tuple[int, ...]
    seed: tuple[int, ...]

    @property
    def inviting(self) -> tuple[Thing, ...]:
        """Objects whose companion is absent: what a prior would hallucinate from."""
        return tuple(thing for thing in self.objects if companion(thing) not in self.objects)

    @property
    def companions(self) -> tuple[Thing, ...]:
        """The absent companions of what is present: AMBER's hallucination targets (Cog counts them)."""
        return tuple(companion(thing) for thing in self.inviting)

    def image(self) -> Image.Image:
        """Draw it: RGB, 64 × 64 pixels, jittered positions and sizes, uniform noise of ±32 on every channel."""
        random = np.random.RandomState([*self.seed, 1])
        image = Image.new("RGB", (SIDE, SIDE), BACKGROUNDS[random.randint(len(BACKGROUNDS))])
        pencil = ImageDraw.Draw(image)
        for thing, cell in zip(self.objects, self.cells, strict=True):
            row, column = divmod(cell, GRID)
            right, down = (int(shift) for shift in random.randint(-1, 2, size=2))
            x, y = column * CELL + CELL // 2 + right, row * CELL + CELL // 2 + down
            _draw(pencil, thing, x, y, radius=int(random.randint(5, 7)))
        noise = random.randint(-NOISE, NOISE + 1, size=(SIDE, SIDE, 3))
        return Image.fromarray((np.asarray(image, dtype=np.int64) + noise).clip(0, 255).astype(np.uint8))


def draw_scene(seed: int, index: int, *, max_objects: int = MAX_OBJECTS) -> Scene:
    """Scene number `index` of the endless series that `seed` names, with 1 to `max_objects` objects."""
    random = np.random.RandomState([seed, index, 0])
    count = int(random.randint(1, max_objects + 1))
    palette = [tuple(COLOURS)[i] for i in random.permutation(len(COLOURS))[: random.randint(2, len(COLOURS) + 1)]]
    things = [thing for thing in THINGS if thing.colour in palette]
    objects = tuple(things[i] for i in random.permutation(len(things))[:count])
    cells = tuple(sorted(int(cell) for cell in random.permutation(GRID * GRID)[:count]))
    return Scene(objects=objects, cells=cells, seed=(seed, index))


def _draw(pencil: ImageDraw.ImageDraw, thing: Thing, x: int, y: int, *, radius: int) -> None:
    fill = COLOURS[thing.colour]
    match thing.shape:
        case "circle":
            pencil.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)
        case "square":
            pencil.rectangle([x - radius + 1, y - radius + 1, x + radius - 1, y + radius - 1], fill=fill)
        case "triangle":
            pencil.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
        case "cross":
            pencil.rectangle([x - radius, y - 1, x + radius, y + 1], fill=fill)
            pencil.rectangle([x - 1, y - radius, x + 1, y + radius], fill=fill)
        case "ring":
            pencil.ellipse([x - radius, y - radius, x + radius, y + radius], outline=fill, width=2)
