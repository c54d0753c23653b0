"""Many questions on one image: the image is processed, encoded and read once, each question adds its few tokens.

AMBER asks some fourteen questions an image. What their prompts share, template and image, is read once; its keys and
values are then repeated for the questions, which are read and answered together, several images at a time. Only for
causal prompts; `can_read_in_parts` says whether a model is one of those. Other models read each whole prompt, with
features of the image that were encoded once.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.data.render.render import Renderer
from sightline.generation.decoder import CompletionBatch, followed_by, read_prompts, special_tokens, write
from sightline.generation.sampling import SamplingSettings
from sightline.layout.grid import stack_left
from sightline.models.families.find import Family, family_of
from sightline.models.unwrap import in_eval_mode
from sightline.types import Example, Group


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Prompts on one image. shared: the tokens that all begin with, and the image. rests: what each adds."""

    shared: Group
    rests: tuple[Tensor, ...]


def can_read_in_parts(family: Family, asked: Asked, max_new_tokens: int) -> bool:
    """Whether these prompts may be read in two parts: a causal model, and all of the row still visible at the longest
    answer's end."""
    longest = len(asked.shared.prompt_ids) + max(map(len, asked.rests)) + max_new_tokens
    in_reach = family.window is None or longest < family.window
    return family.layout == "prefix" and family.prompt_is_causal and in_reach


JOINTS = (("", ""), (" ", ""), ("", "\n"))
"""What a processor may put around the text after the image: Idefics2 a space, PaliGemma a line break at the end."""


class Renders:
    """Prompts of several examples on one image, with the processor called once where that changes nothing.

    The text after the last image is tokenised apart. That this gives the processor's own tokens is checked on the
    first example of every image, and on all examples of the first image; where it does not, every prompt is
    processed for itself.
    """

    def __init__(self, renderer: Renderer, family: Family) -> None:
        self.renderer, self.family = renderer, family
        self.joints = JOINTS

    def asked(self, examples: Sequence[Example]) -> Asked | None:
        """What the examples share and what each adds; None where their prompts cannot be split after the image."""
        if not self.joints or not examples[0].images:
            return None
        texts = [text for example in examples if (text := self._after_images(example))]
        if len(texts) < len(examples):
            return None
        first = self.renderer.prompt(examples[0])
        if len(self.joints) > 1:
            wholes = [first, *(self.renderer.prompt(example) for example in examples[1:])]
            self.joints = tuple(joint for joint in JOINTS if self._agrees(self._split(first, texts, joint), wholes))[:1]
        found = [self._split(first, texts, joint) for joint in self.joints]
        return next((one for one in found if self._agrees(one, [first])), None)

    def _split(self, first: Group, texts: Sequence[str], joint: tuple[str, str]) -> Asked:
        """The first prompt without its own rest, and every rest tokenised."""
        before, behind = joint
        written = [before + text + behind for text in texts]
        rests = [self.renderer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in written]
        shared = self._cut(first, len(first.prompt_ids) - len(rests[0]))
        return Asked(shared=shared, rests=tuple(torch.tensor(rest) for rest in rests))

    def _after_images(self, example: Example) -> str:
        """The rendered text after the last image and its markup; empty where a question holds a control token."""
        spoken = [part["text"] for m in example.prompt for part in m["content"] if part["type"] == "text"]
        if any(self.renderer.control.search(words) for words in spoken):
            return ""
        template = self.renderer.template
        text = template.prompt(example.prompt, example.id).rpartition(template.image_mark)[2]
        while (token := self.renderer.control.match(text)) is not None:
            text = text[token.end() :]
        return text

    def _cut(self, group: Group, length: int) -> Group:
        """The first `length` tokens of a prompt, with its images."""
        along = {n: group.model_inputs[n][:, :length] for n in self._along if n in group.model_inputs}
        return replace(group, prompt_ids=group.prompt_ids[:length], model_inputs={**group.model_inputs, **along})

    def _agrees(self, found: Asked, wholes: Sequence[Group]) -> bool:
        """Whether shared + rest is what the processor itself makes of each, all images being in the shared part."""
        images = torch.tensor(self.family.image_token_ids)
        return not any(torch.isin(rest, images).any() for rest in found.rests) and all(
            torch.equal(joined.prompt_ids, whole.prompt_ids)
            and all(
                torch.equal(joined.model_inputs[n], whole.model_inputs[n])
                for n in self._along & whole.model_inputs.keys()
            )
            for joined, whole in zip(self.prompts(found), wholes, strict=False)
        )

    def prompts(self, asked: Asked) -> list[Group]:
        """The whole prompts, all with the same tensors of pixels."""
        return [followed_by(self.family, asked.shared, rest) for rest in asked.rests]

    @property
    def _along(self) -> set[str]:
        return {*self.family.along_tokens, *self.family.continues}


def answer(
    model: nn.Module, processor: ProcessorMixin, asked: Sequence[Asked], *, max_new_tokens: int
) -> list[list[Tensor]]:
    """Greedy answers to every question of every image, as `generation.generate` gives them one by one; on the CPU."""
    family = family_of(model)
    rests = [rest for one in asked for rest in one.rests]
    settings = SamplingSettings(max_new_tokens=max_new_tokens, temperature=0.0)
    device, padding = family.model.device, special_tokens(processor, family).padding
    image = torch.arange(len(asked)).repeat_interleave(torch.tensor([len(one.rests) for one in asked]))
    said: dict[int, Tensor] = {}
    with torch.no_grad(), in_eval_mode(model):
        shared, _ = read_prompts(family, [one.shared for one in asked], padding)
        for part in _read_together(family, rests):
            past = replace(shared, cache=deepcopy(shared.cache)) if len(part) < len(rests) else shared
            past.fork(image[part].to(device))
            ids = stack_left([rests[i] for i in part], padding).to(device)
            mask = stack_left([torch.ones_like(rests[i]) for i in part], 0).to(device)
            answers = CompletionBatch(len(part), processor, family, settings)
            for _ in write(past, past.read(ids, mask), answers):
                pass
            said |= {i: one.ids for i, one in zip(part, answers.sampled(), strict=True)}
    numbers = iter(range(len(rests)))
    return [[said[next(numbers)] for _ in one.rests] for one in asked]


def _read_together(family: Family, rests: Sequence[Tensor]) -> list[list[int]]:
    """Which questions are read in one call: all, padded on the left; those of one length where a layer has a state,
    which would take the padding in."""
    if not family.forks_states:
        return [[*range(len(rests))]]
    lengths = {len(rest): [i for i, other in enumerate(rests) if len(other) == len(rest)] for rest in rests}
    return [*lengths.values()]
