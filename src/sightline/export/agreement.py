"""Does the merged model say what the trained one said? Log-probs of two answers about an image, before and after."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.data.media.images import LazyImage
from sightline.errors import ModelError
from sightline.evaluation.asking import PLAIN, Asking
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import padded
from sightline.models.families.find import family_of
from sightline.types import Example, Group, Response

ALLOWED = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Nats a token, on average, that rounding alone may change."""

QUESTION = "Describe the image in detail. How many things are shown, and where?"
ANSWERS = (
    "A red square stands on the left, above a blue circle. There is nothing else in the image.",
    "Two people are walking a dog along the beach; behind them are three boats and a lighthouse.",
)


class Agreement(NamedTuple):
    """Averages over tokens, in nats. difference: |trained − merged|. effect: |trained − base|, what training did."""

    difference: float
    effect: float
    num_tokens: int
    dtype: torch.dtype

    @property
    def is_kept(self) -> bool:
        """Whether most of what training did is still there."""
        return self.difference <= self.effect / 4 or self.effect == 0

    def sentence(self) -> str:
        """For people."""
        name = str(self.dtype).removeprefix("torch.")
        return (
            f"On {self.num_tokens} tokens of two answers the merged {name} model differs from the trained one by "
            f"{self.difference:.2g} nats per token; training had moved them by {self.effect:.2g}."
        )


def probe(processor: ProcessorMixin, asking: Asking = PLAIN) -> Group:
    """A question about an image drawn here, and two answers, through the model's own processor, asked as trained."""
    image = Image.linear_gradient("L").resize((320, 240)).convert("RGB")
    image.paste((200, 30, 30), (40, 60, 120, 140))
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    answers = tuple(
        Response(messages=({"role": "assistant", "content": [{"type": "text", "text": text}]},)) for text in ANSWERS
    )
    example = Example(
        id="probe",
        source="probe",
        row_number=0,
        prompt=({"role": "user", "content": content},),
        images=(LazyImage(image=image, where="the probe's image"),),
        responses=answers,
    )
    return asking.renderer(processor).group(asking.example(example))


@torch.no_grad()
def score(model: nn.Module, group: Group) -> Float[Tensor, " targets"]:
    """Log-probs of the answers' tokens, on the CPU."""
    model.eval()
    placed = family_of(model).place(group)
    found = log_probs(model, padded.lay_out([placed]), groups=[placed], features=encode(model, [placed]))
    return found.logp.float().cpu()


def agreement(trained: Tensor, base: Tensor, merged: Tensor, dtype: torch.dtype) -> Agreement:
    """Compare. Raises ModelError where the merged model is another one."""
    found = Agreement(
        difference=float((trained - merged).abs().mean()),
        effect=float((trained - base).abs().mean()),
        num_tokens=len(trained),
        dtype=dtype,
    )
    if not found.difference <= max(ALLOWED[dtype], found.effect / 2):
        raise ModelError(
            f"{found.sentence()} That is more than rounding, so nothing was written. Export with `--dtype float32`; if "
            "that differs too, the adapter does not belong to this base model."
        )
    return found
