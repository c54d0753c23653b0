"""POPE (arXiv:2305.10355) from its official files `coco_pope_{random,popular,adversarial}.json`: 3 × 3,000 questions.

Positive class "yes". Officially only the first sentence counts, and whatever is no "no" is a yes.
"""

from pathlib import Path

from sightline.evaluation.task import Item, Task
from sightline.evaluation.tasks.files import field, find, image_in, read_rows, yes_or_no
from sightline.evaluation.tasks.metrics import metrics_of
from sightline.scoring import yes_no
from sightline.scoring.ratio import Ratios
from sightline.scoring.settled import final_answer

SETTINGS = ("random", "popular", "adversarial")
SOURCE = "output/coco/ of POPE's repository"


def pope(folder: Path, setting: str) -> Task:
    """One of the three settings; the images are COCO's val2014."""
    path = find(folder, (f"coco_pope_{setting}.json", f"coco_pope_{setting}.jsonl"), SOURCE)
    items = []
    for number, row in enumerate(read_rows(path), start=1):
        where = f"{path}, row {number}"
        name = field(row, ("image",), where)
        items.append(
            Item(
                id=str(field(row, ("question_id",), where)),
                question=field(row, ("text", "question"), where),
                truth=yes_or_no(field(row, ("label",), where), where),
                image_id=name,
                images=(image_in(folder, name, where),),
            )
        )
    return Task(
        name=f"pope-{setting}",
        title=f"POPE {setting}",
        items=items,
        scorer=_score,
        metrics=metrics_of([i.truth for i in items], reading="read by their first sentence", without=["inexact"]),
        correct="accuracy",
        max_new_tokens=16,
        baselines={"always “No”": "No", "always “Yes”": "Yes"},
        marks=_marks,
        notes=(
            "Positive class: yes. Official reading: a “no” or “not” in the first sentence is a no, all else a yes.",
        ),
    )


def _marks(item: Item, answer: str) -> tuple[str, ...]:
    return (answer,) if yes_no.first_sentence(final_answer(answer)) == "yes" != item.truth else ()


def _score(item: Item, answer: str) -> Ratios:
    official = yes_no.judge(yes_no.first_sentence(final_answer(answer)), item.truth, positive="yes")
    both = yes_no.judge_text(answer, item.truth, positive="yes")
    return {**both, **official}
