"""The columns of every row of scenes."""

from typing import Any

from sightline.scenes.image import picture_of
from sightline.scenes.questions import Question
from sightline.scenes.world import Scene

Row = dict[str, Any]


def row_of(scene: Scene, question: Question, id: str) -> Row:
    """The columns that every row has: the picture, the question, and what is known about both."""
    return {
        "id": id,
        "image": picture_of(scene),
        "question": question.text,
        "kind": question.kind,
        "group": question.group,
        "objects": [str(thing) for thing in scene.objects],
        "companions": [str(thing) for thing in scene.companions],
    }
