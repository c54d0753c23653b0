"""Several models answer one question in turns, a token each: what the page shows while they write."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image
from transformers import ProcessorMixin

from sightline.data.media.images import LazyImage
from sightline.evaluation.asking import PLAIN, Asking
from sightline.evaluation.models import Models
from sightline.generation.generate import stream
from sightline.generation.text import CompletionText
from sightline.models.families.find import family_of
from sightline.types import Example, Group


@dataclass
class Answer:
    """A model's answer so far. seconds: spent on it alone. done: nothing more comes."""

    label: str
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0
    done: bool = False


def answers(
    models: Models, labels: Sequence[str], image: Image.Image | None, question: str, *, max_new_tokens: int
) -> Iterator[list[Answer]]:
    """The answers of all models after every round of one token each. Adapters of one base are swapped between turns.

    Greedy, so that a difference between columns is one of the models. The list is the same object each time.
    """
    said = [Answer(label) for label in labels]
    streams: dict[str, Iterator[int]] = {}
    text_of: dict[str, CompletionText] = {}
    while not all(answer.done for answer in said):
        for answer in (a for a in said if not a.done):
            started = time.perf_counter()
            with models.use(answer.label) as (model, processor):
                if answer.label not in streams:
                    group = prompt(processor, image, question, models.asking(answer.label))
                    text_of[answer.label] = CompletionText.of(processor, family_of(model))
                    streams[answer.label] = stream(model, processor, group, max_new_tokens=max_new_tokens)
                token = next(streams[answer.label], None)
            answer.done = token is None
            if token is not None:
                answer.tokens.append(token)
                # decoded anew as a whole: a token may be half a character
                answer.text = text_of[answer.label](answer.tokens).strip()
            answer.seconds += time.perf_counter() - started
        yield said


def prompt(processor: ProcessorMixin, image: Image.Image | None, question: str, asking: Asking = PLAIN) -> Group:
    """The question about the image as the model's own template writes it. Raises `RowError` for what it refuses."""
    images = () if image is None else (LazyImage(where="the image", image=image),)
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
    message = {"role": "user", "content": content}
    example = Example(id="question", source="the question", row_number=0, prompt=(message,), images=images)
    return asking.renderer(processor).prompt(asking.example(example))
