"""Groups for tests: random images and responses, prompts made by a family's real processor."""

import numpy as np
import torch
from PIL import Image
from transformers import ProcessorMixin

from sightline.types import Group

QUESTION = "What is shown in this image?"


def image(height: int, width: int, seed: int = 0) -> Image.Image:
    """An image of random pixels."""
    pixels = np.random.default_rng(seed).random((height, width, 3)) * 255
    return Image.fromarray(pixels.astype("uint8"))


def make_group(
    processor: ProcessorMixin,
    *,
    sizes: tuple[tuple[int, int], ...] = ((50, 70),),
    lengths: tuple[int, ...] = (7, 1, 11),
    question: str = QUESTION,
    seed: int = 0,
) -> Group:
    """A group with images of these (height, width) and responses of so many random tokens, all of weight 1."""
    if processor.chat_template:
        content = [{"type": "image"} for _ in sizes] + [{"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    else:
        text = "<image>" * len(sizes) + question
    images = [[image(*size, seed=10 * seed + i) for i, size in enumerate(sizes)]] if sizes else None
    inputs = dict(processor(text=[text], images=images, return_tensors="pt"))
    generator = torch.Generator().manual_seed(seed)
    responses = tuple(torch.randint(100, 500, (length,), generator=generator) for length in lengths)
    return Group(
        id=f"group {seed}",
        prompt_ids=inputs.pop("input_ids")[0],
        responses=responses,
        weights=tuple(torch.ones(length) for length in lengths),
        model_inputs={k: v for k, v in inputs.items() if k not in ("attention_mask", "labels")},
    )
