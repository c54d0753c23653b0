import numpy as np
import pytest
from numpy.random import RandomState

from sightline.scenes.questions import attribute, counting, describe, description, existence, habitual, mentions
from sightline.scenes.world import Scene, Thing, companion, draw_scene

CIRCLE, RING = Thing("red", "circle"), Thing("blue", "ring")
SCENES = [draw_scene(6, index) for index in range(100)]


def scene_of(*objects: Thing) -> Scene:
    return Scene(objects=objects, cells=tuple(range(len(objects))), seed=(0, 0))


def test_descriptions_are_english():
    assert describe((CIRCLE,)) == "A red circle."
    assert describe((CIRCLE, RING)) == "A red circle and a blue ring."
    assert describe((CIRCLE, RING, CIRCLE)) == "A red circle, a blue ring and a red circle."


def test_mentions_reads_back_what_describe_wrote():
    assert all(mentions(description(scene).answer) == list(scene.objects) for scene in SCENES)
    assert mentions("Two RED circles near a blue  ring, a red thing and a circle") == []
    assert mentions("I see a Red Circle; and a red circle!") == [CIRCLE, CIRCLE]


def test_existence_asks_for_what_its_group_says():
    random = RandomState(0)
    for scene in (scene for scene in SCENES if scene.inviting):
        present, absent = existence(scene, "present", random), existence(scene, "absent", random)
        invited = existence(scene, "companion", random)
        assert (present.answer, absent.answer, invited.answer) == ("Yes", "No", "No")
        assert present.thing in scene.objects and absent.thing not in scene.objects
        assert invited.source in scene.objects and invited.thing == companion(invited.source)


def test_counting_counts():
    scene = scene_of(CIRCLE, Thing("red", "ring"), RING)
    expected = {
        "How many red objects are there?": "2",
        "How many rings are there?": "2",
        "How many blue objects are there?": "1",
        "How many circles are there?": "1",
        "How many crosses are there?": "0",
        "How many green objects are there?": "0",
    }
    asked = [counting(scene, by, RandomState(seed)) for seed in range(100) for by in ("colour", "shape")]
    answers = {question.text: question.answer for question in asked}
    assert expected.items() <= answers.items()


def test_attribute_asks_only_where_one_object_is_meant():
    scene = scene_of(CIRCLE, Thing("red", "ring"), RING)
    colours, shapes = ([attribute(scene, asked, RandomState(s)) for s in range(20)] for asked in ("colour", "shape"))
    assert {(q.text, q.answer) for q in colours if q} == {("What color is the circle?", "red")}
    assert {(q.text, q.answer) for q in shapes if q} == {("What shape is the blue object?", "ring")}
    square = scene_of(CIRCLE, Thing("red", "ring"), RING, Thing("blue", "circle"))
    assert attribute(square, "colour", RandomState(0)) is attribute(square, "shape", RandomState(0)) is None


@pytest.mark.parametrize(("shape", "rate"), [("circle", 0.8), ("cross", 0.25)])
def test_habit_names_the_absent_companion_at_its_rate(shape: str, rate: float):
    scene, random = scene_of(Thing("red", shape)), RandomState(0)
    added = [len(mentions(habitual(scene, description(scene), random))) == 2 for _ in range(2000)]
    agreed = [habitual(scene, existence(scene, "companion", random), random) == "Yes" for _ in range(2000)]
    assert np.mean(added) == pytest.approx(rate, abs=0.04)
    assert np.mean(agreed) == pytest.approx(rate, abs=0.04)


def test_habit_leaves_other_answers_true():
    random = RandomState(0)
    for scene in SCENES:
        for question in (existence(scene, "present", random), existence(scene, "absent", random)):
            assert habitual(scene, question, random) == question.answer
        question = counting(scene, "shape", random)
        assert habitual(scene, question, random) == question.answer


def test_a_scene_whose_companions_are_all_there_invites_nothing():
    things = [CIRCLE]
    while companion(things[-1]) not in things:
        things.append(companion(things[-1]))
    scene = scene_of(*things)
    assert scene.inviting == ()
    assert habitual(scene, description(scene), RandomState(0)) == description(scene).answer
