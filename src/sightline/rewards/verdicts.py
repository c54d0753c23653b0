"""What a model in this process holds of yes/no questions: p(yes) by log-probs, not by what it would write.

A question with its two possible answers is a group of K = 2 responses, scored as in training; p(yes) is
π(yes) / (π(yes) + π(no)), end of turn included. Questions about one image share what was made of it: where the
model's prompts are causal, the image and all that stands before the question is computed once for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import ProcessorMixin

from sightline.data.render.render import Renderer
from sightline.forward.features import encode_as_it_is
from sightline.forward.forward import log_probs
from sightline.layout import padded, prefix
from sightline.layout.share import share_prefix
from sightline.models.families.find import family_of
from sightline.models.unwrap import in_eval_mode, unwrap
from sightline.types import AnyImage, Example, Group, Response

IMAGES_AT_A_TIME = 8
"""Images whose questions are in one forward."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Some questions about the same images."""

    images: tuple[AnyImage, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class YesOrNo:
    """Asks a model in memory. yes, no: the two answers, as the model writes them."""

    model: nn.Module
    processor: ProcessorMixin
    yes: str = "Yes"
    no: str = "No"

    def probabilities(self, asked: Sequence[Questions]) -> list[list[float | None]]:
        """p(yes) of every question, in [0, 1]; None for one that no prompt may hold, with a token of the chat template.

        Raises `RowError` for an image that cannot be read.
        """
        found: list[list[float | None]] = []
        with torch.no_grad(), in_eval_mode(self.model):
            for start in range(0, len(asked), IMAGES_AT_A_TIME):
                found += self._of_some(asked[start : start + IMAGES_AT_A_TIME])
        return found

    def _of_some(self, asked: Sequence[Questions]) -> list[list[float | None]]:
        family, renderer = family_of(self.model), Renderer(self.processor)
        can_ask = [[renderer.control.search(text) is None for text in one.texts] for one in asked]
        images = renderer.image_token_ids
        groups: list[Group] = []
        for one, can in zip(asked, can_ask, strict=True):
            texts = [text for text, can_be in zip(one.texts, can, strict=True) if can_be]
            apart = [renderer.group(self._example(one, text)) for text in texts]
            sharing = len(apart) > 1 and family.layout == "prefix" and family.prompt_is_causal
            shared = share_prefix(apart, images) if sharing else None
            groups += apart if shared is None else [shared]
        if not groups:
            return [[None] * len(one.texts) for one in asked]
        placed = [family.place(group) for group in groups]
        lay_out = prefix.lay_out if family.layout == "prefix" else padded.lay_out
        batch = lay_out(placed).to(unwrap(self.model).device)
        features = encode_as_it_is(self.model, placed)
        scored = log_probs(self.model, batch, groups=placed, features=features).sum().reshape(-1, 2)
        values = iter(torch.sigmoid(scored[:, 0] - scored[:, 1]).tolist())
        return [[next(values) if can_be else None for can_be in can] for can in can_ask]

    def _example(self, asked: Questions, text: str) -> Example:
        content = [*({"type": "image"} for _ in asked.images), {"type": "text", "text": text}]
        said = [({"role": "assistant", "content": [{"type": "text", "text": one}]},) for one in (self.yes, self.no)]
        return Example(
            id=text,
            source="question",
            row_number=0,
            prompt=({"role": "user", "content": content},),
            images=asked.images,
            responses=tuple(Response(messages=messages) for messages in said),
        )


def without_repeats(asked: Sequence[Questions]) -> tuple[list[Questions], list[list[tuple[int, int]]]]:
    """The same questions, each asked once of the same images, and where each of them is now: (which, its number).

    Answers to one prompt make many of the same claims.
    """
    places: dict[tuple[int, ...], int] = {}
    kept: list[Questions] = []
    where: list[list[tuple[int, int]]] = []
    for one in asked:
        which = places.setdefault(tuple(map(id, one.images)), len(kept))
        if which == len(kept):
            kept.append(Questions(images=one.images, texts=()))
        texts = tuple(dict.fromkeys((*kept[which].texts, *one.texts)))
        kept[which] = replace(kept[which], texts=texts)
        where.append([(which, texts.index(text)) for text in one.texts])
    return kept, where
