"""Scenes as an evaluation task, AMBER-style: descriptions by CHAIR, Cover, Hal and Cog, existence by yes and no.

The positive class of F1 is "no", as in AMBER. On every image one present object is asked for, one absent at random,
and one absent companion where there is one; so two answers in three are no, and always saying so is a baseline.
"""

from collections.abc import Sequence

from numpy.random import RandomState

from sightline.evaluation.task import Item, Metric, Task
from sightline.evaluation.tasks.metrics import CAPTIONS, metrics_of
from sightline.scenes.image import image_of
from sightline.scenes.questions import Question, attribute, counting, description, existence, mentions
from sightline.scenes.world import Scene, Thing, draw_scene
from sightline.scoring import chair, yes_no
from sightline.scoring.matching import same_words
from sightline.scoring.ratio import Ratios, amount, rate

HELD_OUT = 90_000
"""Seeds from here on are for evaluation; training and pairs draw from lower ones."""
EXACT = (
    Metric(name="exact", label="Exact", better="higher", explanation="descriptions that are the true one to the word"),
    Metric(name="counting", label="Counting", better="higher", explanation="right numbers"),
    Metric(name="attribute", label="Attributes", better="higher", explanation="right colours and shapes"),
)
SHOWN = ("accuracy", "f1", "precision", "recall", "unparsed", "yes_rate")


def scenes_tasks(*, num_scenes: int = 1000, seed: int = 0) -> list[Task]:
    """The task of `sightline evaluate --task scenes`."""
    return [scenes_task(num_scenes, seed=HELD_OUT + seed)]


def scenes_task(num_scenes: int, *, seed: int = HELD_OUT) -> Task:
    """Questions about `num_scenes` scenes of this seed: a description and up to five short ones on each."""
    items = [item for index in range(num_scenes) for item in _items(seed, index)]
    truths = [item.truth["answer"].lower() for item in items if item.truth["kind"] == "existence"]
    yes_no_metrics = metrics_of(truths, reading="the first yes or no counts")
    return Task(
        name="scenes",
        title=f"Scenes ({num_scenes:,} images, seed {seed})",
        items=items,
        scorer=score,
        metrics=(*CAPTIONS, *(metric for metric in yes_no_metrics if metric.name in SHOWN), *EXACT),
        correct="accuracy",
        otherwise=("hal", "counting", "attribute"),
        max_new_tokens=40,
        marks=marks,
        truth_text=lambda item: item.truth["answer"],
        baselines={"always “No”": "No"},
        notes=("Positive class of F1: no. Accuracy and F1 are of existence questions alone, read tolerantly.",),
    )


def score(item: Item, answer: str) -> Ratios:
    """An answer's part in every score that concerns its kind of question."""
    match item.truth["kind"]:
        case "description":
            counts = chair.count_mentions(_named(answer), item.truth["objects"], item.truth["companions"])
            words = amount(len(answer.split()))
            return {**chair.judge(counts), "exact": rate(same_words(answer, item.truth["answer"])), "words": words}
        case "existence":
            read = yes_no.tolerant(answer)
            judged = yes_no.judge(read, item.truth["answer"].lower(), positive="no")
            return {**judged, "unparsed": rate(read is None)}
    return {item.truth["kind"]: rate(answer.strip(" .").lower() == item.truth["answer"].lower())}


def marks(item: Item, answer: str) -> tuple[str, ...]:
    """Words to mark as hallucinated: absent objects that a description names, or a yes to an absent one."""
    if item.truth["kind"] == "description":
        return tuple(name for name in dict.fromkeys(_named(answer)) if name not in item.truth["objects"])
    invented = item.truth["kind"] == "existence" and item.truth["answer"] == "No" and yes_no.tolerant(answer) == "yes"
    return (answer,) if invented else ()


def _named(answer: str) -> list[str]:
    return [str(thing) for thing in mentions(answer)]


def _items(seed: int, index: int) -> list[Item]:
    """The items on one scene: description, existence (present, absent, companion), counting, attribute."""
    scene = draw_scene(seed, index)
    random = RandomState([seed, index, 4])
    asked = [description(scene), existence(scene, "present", random), existence(scene, "absent", random)]
    if scene.inviting:
        asked.append(existence(scene, "companion", random))
    asked.append(counting(scene, "shape" if index % 2 else "colour", random))
    about = attribute(scene, "colour" if index % 2 else "shape", random)
    if about is not None:
        asked.append(about)
    return [_item(scene, question, f"{seed}-{index}-{place}") for place, question in enumerate(asked)]


def _item(scene: Scene, question: Question, id: str) -> Item:
    truth = {"kind": question.kind, "answer": question.answer}
    if question.kind == "description":
        truth |= {"objects": _names(scene.objects), "companions": _names(scene.companions)}
    groups = (question.kind, f"existence: {question.group}") if question.kind == "existence" else (question.kind,)
    return Item(
        id=id,
        question=question.text,
        truth=truth,
        image_id=f"{scene.seed[0]}-{scene.seed[1]}",
        images=(image_of(scene),),
        groups=groups,
    )


def _names(things: Sequence[Thing]) -> list[str]:
    return [str(thing) for thing in things]
