"""A small yes/no task on drawn images, and AMBER's and POPE's files in miniature."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.data.media.images import LazyImage
from sightline.evaluation.task import Item, Task
from sightline.evaluation.tasks.metrics import YES_NO
from sightline.scoring import yes_no


def image(number: int, size: tuple[int, int] = (56, 56)) -> Image.Image:
    pixels = np.random.RandomState(number).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def task(num_images: int = 3, questions_a_image: int = 3) -> Task:
    items = [
        Item(
            id=f"{p}-{q}",
            question=f"Is there a {word} in image {p}?",
            truth="yes" if (p + q) % 2 else "no",
            image_id=f"image {p}",
            images=(LazyImage(where=f"image {p}", image=image(p)),),
            groups=("even" if q % 2 == 0 else "odd",),
        )
        for p in range(num_images)
        for q, word in enumerate(("red square", "dog", "blue circle that is left of the lazy fox")[:questions_a_image])
    ]
    return Task(
        name="toy",
        title="Toy questions",
        items=items,
        scorer=lambda item, answer: yes_no.judge_text(answer, item.truth, positive="no"),
        metrics=YES_NO,
        correct="tolerant_accuracy",
        max_new_tokens=4,
        baselines={"always “No”": "No"},
        marks=lambda item, answer: ("yes",) if item.truth == "no" else (),
    )


def write_pope(folder: Path, settings: tuple[str, ...] = ("random", "popular", "adversarial")) -> Path:
    """POPE's files with four questions on two images."""
    (folder / "image").mkdir(parents=True)
    for p in range(2):
        image(p).save(folder / "image" / f"{p}.png")
    for setting in settings:
        rows = [
            {
                "question_id": i + 1,
                "image": f"{i // 2}.png",
                "text": f"Is there a dog {i}?",
                "label": ("yes", "no")[i % 2],
            }
            for i in range(4)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"coco_pope_{setting}.json").write_text(text)
    return folder
