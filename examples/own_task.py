"""An evaluation task of your own: a question about each image, scored by your own rule.

    sightline evaluate embedded --task examples/own_task.py:rows --data questions.jsonl

questions.jsonl has `image`, `question` and `answer` in each row. A score is a ratio per completion; intervals, groups,
comparisons, and curves while training (`evaluation.tasks`) follow from it.
"""

import json
from pathlib import Path

import sightline as sl
from sightline.data.media.images import LazyImage
from sightline.scoring.ratio import Ratios


def rows(data: Path) -> sl.Task:
    """The task of a JSONL file; images are beside it."""
    items = []
    for number, line in enumerate(data.read_text().splitlines()):
        row = json.loads(line)
        image = LazyImage(where=f"{data.name}, row {number}", path=data.parent / row["image"])
        items.append(
            sl.Item(
                id=str(number),
                question=row["question"],
                truth=row["answer"],
                image_id=row["image"],  # intervals draw whole images: questions about one image are not independent
                images=(image,),
            )
        )
    return sl.Task(
        name="rows",
        title=f"Questions of {data.name}",
        items=items,
        scorer=score,
        metrics=(
            sl.Metric(name="accuracy", label="Accuracy", better="higher"),
            sl.Metric(name="words", label="Words", better="neither", unit="number"),
        ),
        correct="accuracy",
        max_new_tokens=16,
    )


def score(item: sl.Item, completion: str) -> Ratios:
    """Right if the completion begins with the truth, in any case."""
    right = completion.strip().lower().startswith(item.truth.lower())
    return {"accuracy": sl.rate(right), "words": sl.amount(len(completion.split()))}
