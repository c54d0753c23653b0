"""Sampling one batch of prompts: distinct completions, and the worse side where no judge finds it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import ProcessorMixin

from sightline.config.pairs import ContinueBlindConfig, NoisyImageConfig, OmissionConfig, PairMakingConfig
from sightline.data.render.render import Renderer
from sightline.errors import DataError
from sightline.generation.decoder import followed_by
from sightline.generation.generate import sample
from sightline.generation.sampling import Sampled, SamplingSettings, seeds_at
from sightline.generation.text import CompletionText
from sightline.models.families.find import family_of
from sightline.rollouts.sampler import Sampler
from sightline.scoring.claims import PHRASE, SENTENCE
from sightline.types import AnyImage, Example, Prompt

NUM_NOISE_STEPS = 1000
"""Steps of the diffusion that noise is taken from."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A distinct completion. num_tokens: the end token included. times: how often it was sampled.

    rejected: a worse answer to the same prompt that was made of it, with its number of tokens, where no judge looks.
    """

    text: str
    ids: list[int]
    finished: bool
    times: int
    rejected: str | None = None
    rejected_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    def as_json(self) -> dict[str, Any]:
        """For the journal; `Completion(**…)` is the same again."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Completer:
    """Samples completions. model, processor: the policy, for what is not asked of the sampler."""

    sampler: Sampler
    model: nn.Module
    processor: ProcessorMixin
    renderer: Renderer
    text_of: CompletionText
    settings: SamplingSettings
    num_generations: int
    seed: int
    config: PairMakingConfig

    def complete(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> list[list[Completion]]:
        """The distinct completions to each prompt, in the order in which they were first sampled."""
        if not prompts:
            return []
        sampled = self.sampler.sample(prompts, self.num_generations, self.settings, self.seed)
        found = []
        for prompt, some in zip(prompts, sampled, strict=True):
            texts = [self.text_of(one.ids, prompt.text).strip() for one in some]
            times = Counter(texts)
            first = dict(zip(reversed(texts), reversed(some), strict=True))
            found.append(
                [
                    Completion(text=t, ids=first[t].ids.tolist(), finished=first[t].finished, times=number)
                    for t, number in times.items()
                ]
            )
        match self.config:
            case ContinueBlindConfig(kept_share=share):
                return self._continued_blind(prompts, examples, found, share)
            case NoisyImageConfig(noise_step=step):
                return self._to_noisy_images(prompts, examples, found, step)
            case OmissionConfig(column=column):
                known = [objects_of(example, column) for example in examples]
                return [
                    [self._against(one, without_object(one.text, objects)) for one in some]
                    for objects, some in zip(known, found, strict=True)
                ]
        return found

    def _against(self, one: Completion, rejected: str | None, num_tokens: int | None = None) -> Completion:
        """The completion with its worse side, if there is one, of so many tokens, the end token included."""
        if rejected is None:
            return one
        if num_tokens is None:
            num_tokens = len(self.processor.tokenizer(rejected, add_special_tokens=False)["input_ids"]) + one.finished
        return replace(one, rejected=rejected, rejected_tokens=num_tokens)

    def _continued_blind(
        self, prompts: Sequence[Prompt], examples: Sequence[Example], found: list[list[Completion]], share: float
    ) -> list[list[Completion]]:
        """DropoutNTP: the beginning of each completion, continued by the policy without the images."""
        family = family_of(self.model)
        groups, seeds, kept = [], [], []
        for prompt, example, some in zip(prompts, examples, found, strict=True):
            blind = self.renderer.prompt(without_images(example))
            place = prompt.index if prompt.place is None else prompt.place
            for number, one in enumerate(some):
                beginning = first_words(one.text, share)
                opening = self.text_of.opening if prompt.text.endswith(self.text_of.opening) else ""
                ids = self.processor.tokenizer(beginning.removeprefix(opening), add_special_tokens=False)["input_ids"]
                groups.append(followed_by(family, blind, torch.tensor(ids, dtype=torch.long)))
                seeds += seeds_at([place * self.num_generations + number], 1, self.seed)
                kept.append((beginning, len(ids)))
        continued = sample(self.model, self.processor, groups, 1, self.settings, seeds=seeds)
        ends = iter(zip(kept, continued, strict=True))
        return [[self._with_end(one, *next(ends)) for one in some] for some in found]

    def _with_end(self, one: Completion, kept: tuple[str, int], continued: list[Sampled]) -> Completion:
        (beginning, length), (end,) = kept, continued
        said = self.text_of(end.ids)
        usable = end.finished or self.config.keep_truncated
        return self._against(one, joined(beginning, said) if usable else None, length + len(end.ids))

    def _to_noisy_images(
        self, prompts: Sequence[Prompt], examples: Sequence[Example], found: list[list[Completion]], step: int
    ) -> list[list[Completion]]:
        """POVID: each completion against one to the prompt's images under noise, in the order of sampling."""
        noisy = []
        for prompt, example in zip(prompts, examples, strict=True):
            images = tuple(
                NoisyImage(image, step, (self.seed, prompt.index, number))
                for number, image in enumerate(example.images)
            )
            group = self.renderer.prompt(replace(example, images=images))
            noisy.append(replace(prompt, group=group, images=images))
        sampled = self.sampler.sample(noisy, self.num_generations, self.settings, self.seed + 1)
        result = []
        for prompt, some, others in zip(prompts, found, sampled, strict=True):
            usable = [one for one in others if one.finished or self.config.keep_truncated]
            said = {self.text_of(one.ids, prompt.text).strip(): len(one.ids) for one in usable}
            worse = iter([item for item in said.items() if all(item[0] != one.text for one in some)])
            result.append([self._against(one, *next(worse, (None, None))) for one in some])
        return result


def first_words(text: str, share: float) -> str:
    """The first words of a text, at least one and not all of several; spaces as they are."""
    words = text.split()
    number = max(1, min(len(words) - 1, round(len(words) * share))) if words else 0
    end = 0
    for word in words[:number]:
        end = text.index(word, end) + len(word)
    return text[:end]


def joined(beginning: str, end: str) -> str:
    """Two parts of an answer as one; tokenizers drop the space that a first token stands for."""
    glued = end[:1].isspace() or end[:1] in ".,;:!?" or not end
    return (beginning + ("" if glued else " ") + end).strip()


def without_images(example: Example) -> Example:
    """The same prompt with its text alone."""
    messages = tuple(
        {**message, "content": [part for part in message["content"] if part["type"] != "image"]}
        for message in example.prompt
    )
    return replace(example, prompt=messages, images=())


@dataclass(frozen=True)
class NoisyImage:
    """An image after `step` steps of a diffusion's noise; the same for the same seed.

    x ← √ᾱ·x + √(1 − ᾱ)·ε on pixels in [−1, 1], with the sigmoid schedule of VCD (arXiv:2311.16922), which POVID uses.
    """

    image: AnyImage
    step: int
    seed: tuple[int, ...]

    def open(self) -> Image.Image:
        """Decode and add the noise."""
        pixels = np.asarray(self.image.open().convert("RGB"), dtype=np.float64) / 127.5 - 1
        kept = signal_kept(self.step)
        noise = np.random.default_rng(self.seed).standard_normal(pixels.shape)
        mixed = np.sqrt(kept) * pixels + np.sqrt(1 - kept) * noise
        return Image.fromarray(((mixed.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8))


def signal_kept(step: int) -> float:
    """ᾱ after `step` of 1,000 steps: the share of the image's variance that is left."""
    slope = np.linspace(-6, 6, NUM_NOISE_STEPS)
    betas = 1 / (1 + np.exp(-slope)) * (0.5e-2 - 1e-5) + 1e-5
    return float(np.prod(1 - betas[:step]))


def objects_of(example: Example, column: str) -> list[str]:
    """The objects that the row knows. Raises `DataError` where it has no such column."""
    known = example.row.get(column)
    if known is None:
        raise DataError(
            f"{example.source}, row {example.row_number}: `pairs.type: omission` reads the objects of the image from "
            f"the column `{column}`, and the row has {', '.join(example.row) or 'no other columns'}. Name the column "
            "with `pairs.column`."
        )
    listed = known.split(",") if isinstance(known, str) else [str(one) for one in known]
    return [one.strip() for one in listed if one.strip()]


def without_object(text: str, objects: list[str]) -> str | None:
    """The text without the last of the objects that it names; None where it names fewer than two.

    A member of a list goes (`a dog, a cat and a cup` → `a dog and a cat`), else the sentence that alone names it.
    """
    named = [one for one in objects if one.lower() in text.lower()]
    if len(named) < 2:
        return None
    sentences = [sentence for sentence in SENTENCE.split(text) if sentence.strip()]
    target = max(named, key=lambda name: text.lower().rindex(name.lower()))
    holding = next(s for s in reversed(sentences) if target.lower() in s.lower())
    if len([name for name in named if name.lower() in holding.lower()]) == 1:
        return " ".join(s for s in sentences if s != holding) if len(sentences) > 1 else None
    end = holding[-1] if holding[-1] in ".!?" else ""
    parts = [part for part in PHRASE.split(holding.removesuffix(end)) if part.strip()]
    kept = [part for part in parts if target.lower() not in part.lower()]
    if not kept or len(kept) == len(parts):
        return None
    listed = " and ".join([", ".join(kept[:-1]), kept[-1]]) if len(kept) > 1 else kept[0]
    return " ".join(listed + end if s == holding else s for s in sentences)
