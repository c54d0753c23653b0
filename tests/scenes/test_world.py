import numpy as np
import pytest

from sightline.scenes.world import (
    CELL,
    COLOURS,
    GRID,
    HABITUAL,
    MAX_OBJECTS,
    THINGS,
    Thing,
    companion,
    companion_rate,
    draw_scene,
)

PINNED = [
    ["red circle", "red triangle", "blue ring", "blue circle"],
    ["purple cross", "red cross", "yellow triangle"],
    ["red square", "blue circle", "red triangle"],
]
SCENES = [draw_scene(5, index) for index in range(200)]


def test_a_seed_and_a_number_name_a_scene():
    assert draw_scene(3, 7) == draw_scene(3, 7)
    assert np.array_equal(draw_scene(3, 7).image(), draw_scene(3, 7).image())
    assert draw_scene(3, 7) != draw_scene(3, 8)
    assert draw_scene(3, 7) != draw_scene(4, 7)


def test_the_first_scenes_of_a_seed_are_those_of_every_machine():
    assert [[str(thing) for thing in draw_scene(0, index).objects] for index in range(3)] == PINNED


def test_objects_differ_and_stand_in_reading_order():
    for scene in SCENES:
        assert len(set(scene.objects)) == len(scene.objects) == len(scene.cells)
        assert list(scene.cells) == sorted(set(scene.cells))
        assert all(0 <= cell < GRID * GRID for cell in scene.cells)


def test_every_number_of_objects_up_to_the_limit_is_drawn():
    assert {len(scene.objects) for scene in SCENES} == set(range(1, MAX_OBJECTS + 1))
    assert {len(draw_scene(0, index, max_objects=2).objects) for index in range(50)} == {1, 2}


def test_an_object_is_painted_in_its_own_cell_in_its_own_colour():
    for scene in SCENES[:50]:
        pixels = np.asarray(scene.image(), dtype=float)
        for thing, cell in zip(scene.objects, scene.cells, strict=True):
            row, column = divmod(cell, GRID)
            patch = pixels[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].reshape(-1, 3)
            distance = {name: np.sort(np.abs(patch - colour).sum(1))[:30].mean() for name, colour in COLOURS.items()}
            assert min(distance, key=distance.__getitem__) == thing.colour


def test_companions_pair_every_thing_with_another_one():
    assert {companion(thing) for thing in THINGS} == set(THINGS)
    assert all(companion(thing) != thing for thing in THINGS)


@pytest.mark.parametrize("shape", ["circle", "cross"])
def test_habitual_shapes_invite_more_often(shape: str):
    assert (companion_rate(Thing("red", shape)) > 0.5) == (shape in HABITUAL)


def test_companions_of_a_scene_are_absent():
    for scene in SCENES:
        assert not set(scene.companions) & set(scene.objects)
        assert scene.companions == tuple(companion(thing) for thing in scene.inviting)
