"""How fast questions on one image are answered: one call a question, batches of questions, and the image read once.

    python -m benchmarks.evaluate [--images 4] [--questions 14] [--toy]

The three give the same answers, which is asserted. CPU seconds of one thread, so that a busy machine does not change
the figures; the model is a random SmolVLM of 36 M parameters with five tiles an image (355 prompt tokens), answers of
up to 4 tokens. Measured on two busy cores, 4 images × 14 questions: 38.1, 37.0 and 3.8 s, so 10.0×.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.step.shapes import build
from sightline.data.media.images import LazyImage
from sightline.data.render.render import Renderer
from sightline.evaluation.run import evaluate
from sightline.evaluation.task import Item, Task
from sightline.evaluation.tasks.metrics import YES_NO
from sightline.generation.generate import generate
from sightline.scoring import yes_no

OUT = Path(__file__).parent / "out" / "evaluate.json"
THINGS = ("red square", "blue circle", "dog", "fox", "number", "lazy dog", "quick fox", "one", "two", "three")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=14, help="on each image; AMBER asks 14")
    parser.add_argument("--toy", action="store_true", help="a tiny model: shows that everything runs, times nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = vars(build("smolvlm-toy" if options.toy else "smolvlm-36m", (2, 2))).values()
    task = questions(options.images, options.questions)
    renderer = Renderer(processor)
    groups = [renderer.prompt(task.example(item, i)) for i, item in enumerate(task.items)]
    lengths = sorted({len(group.prompt_ids) for group in groups})
    print(f"{len(task.items)} questions, prompts of {lengths[0]} to {lengths[-1]} tokens", flush=True)

    def one_call_each() -> list[str]:
        return [evaluate(model, processor, replace(task, items=[item]))[0].answer for item in task.items]

    def batches() -> list[str]:
        prompts = [renderer.prompt(task.example(item, i)) for i, item in enumerate(task.items)]
        answers = generate(model, processor, prompts, max_new_tokens=task.max_new_tokens, batch_size=14)
        texts = processor.tokenizer.batch_decode([a[0] for a in answers], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def shared() -> list[str]:
        return [r.answer for r in evaluate(model, processor, task, batch_size=14)]

    ways = {"one call a question": one_call_each, "batches of 14": batches, "image read once": shared}
    figures = {name: timed(way) for name, way in ways.items()}
    said = {tuple(answers) for _, answers in figures.values()}
    assert len(said) == 1, "the ways do not give the same answers"
    slowest = figures["one call a question"][0]
    rows = {
        name: {"cpu_seconds": round(seconds, 2), "per_question": round(seconds / len(task.items), 4),
               "times_faster": round(slowest / seconds, 2)}
        for name, (seconds, _) in figures.items()
    }  # fmt: skip
    for name, row in rows.items():
        print(f"{name:22} {row['cpu_seconds']:8.2f} s  {row['times_faster']:5.2f}×")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"images": options.images, "questions": options.questions, "ways": rows}, indent=2))


def timed(way: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """CPU seconds of this process, and the answers."""
    started = time.process_time()
    answers = way()
    return time.process_time() - started, answers


def questions(num_images: int, num_questions: int) -> Task:
    """Yes/no questions on images of noise."""
    items = []
    for p in range(num_images):
        pixels = np.random.RandomState(p).randint(0, 256, (448, 448, 3), dtype=np.uint8)
        image = LazyImage(where=f"image {p}", image=Image.fromarray(pixels))
        for q in range(num_questions):
            text = f"Is there a {THINGS[q % len(THINGS)]} in this image?"
            items.append(Item(id=f"{p}-{q}", question=text, truth="no", image_id=str(p), images=(image,)))
    return Task(
        name="benchmark",
        title="benchmark",
        items=items,
        scorer=lambda item, answer: yes_no.judge_text(answer, item.truth, positive="no"),
        metrics=YES_NO,
        correct="accuracy",
        max_new_tokens=4,
    )


if __name__ == "__main__":
    main()
