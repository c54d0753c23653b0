"""Many questions on one picture: the picture is processed, encoded and read once, each question adds its few tokens.

AMBER asks some fourteen questions a picture. What their prompts share, template and picture, is read once; its keys and
values are then repeated for the questions, which are read and answered together, several pictures at a time. Only for
causal prompts; `can_read_in_parts` says whether a model is one of those. Other models read each whole prompt, with
features of the picture that were encoded once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import DynamicCache, ProcessorMixin

from sightline.data.render.render import Renderer
from sightline.generation.generate import left_padded, token_settings
from sightline.models.families.find import Family, family_of
from sightline.models.unwrap import in_eval_mode
from sightline.types import Example, Group


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Prompts on one picture. shared: the tokens that all begin with, and the picture. rests: what each adds."""

    shared: Group
    rests: tuple[Tensor, ...]


def can_read_in_parts(family: Family, asked: Asked, max_new_tokens: int) -> bool:
    """Whether these prompts may be read in two parts: a causal model whose past is keys and values, all of them still
    visible at the end of the longest answer."""
    window = getattr(family.text_config, "sliding_window", None)
    longest = len(asked.shared.prompt_ids) + max(map(len, asked.rests)) + max_new_tokens
    in_reach = window is None or longest < window
    return family.layout == "prefix" and family.prompt_is_causal and family.name != "mllama" and in_reach


JOINTS = (("", ""), (" ", ""), ("", "\n"))
"""What a processor may put around the text behind the picture: Idefics2 a space, PaliGemma a line break at the end."""


class Renders:
    """Prompts of several examples on one picture, with the processor called once where that changes nothing.

    The text behind the last picture is tokenised apart. That this gives the processor's own tokens is checked on the
    first example of every picture, and on all examples of the first picture; where it does not, every prompt is
    processed for itself.
    """

    def __init__(self, renderer: Renderer, family: Family) -> None:
        self.renderer, self.family = renderer, family
        self.joints = JOINTS

    def asked(self, examples: Sequence[Example]) -> Asked | None:
        """What the examples share and what each adds; None where their prompts cannot be split behind the picture."""
        if not self.joints or not examples[0].images:
            return None
        texts = [text for example in examples if (text := self._behind_pictures(example))]
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

    def _behind_pictures(self, example: Example) -> str:
        """The rendered text behind the last picture and its markup; empty where a question holds a control token."""
        spoken = [part["text"] for m in example.prompt for part in m["content"] if part["type"] == "text"]
        if any(self.renderer.control.search(words) for words in spoken):
            return ""
        template = self.renderer.template
        text = template.prompt(example.prompt, example.id).rpartition(template.picture_mark)[2]
        while (token := self.renderer.control.match(text)) is not None:
            text = text[token.end() :]
        return text

    def _cut(self, group: Group, length: int) -> Group:
        """The first `length` tokens of a prompt, with its pictures."""
        along = {n: group.model_inputs[n][:, :length] for n in self._along if n in group.model_inputs}
        return replace(group, prompt_ids=group.prompt_ids[:length], model_inputs={**group.model_inputs, **along})

    def _agrees(self, found: Asked, wholes: Sequence[Group]) -> bool:
        """Whether shared + rest is what the processor itself makes of each, all pictures being in the shared part."""
        pictures = torch.tensor(self.family.image_token_ids)
        return not any(torch.isin(rest, pictures).any() for rest in found.rests) and all(
            torch.equal(joined.prompt_ids, whole.prompt_ids)
            and all(
                torch.equal(joined.model_inputs[n], whole.model_inputs[n])
                for n in self._along & whole.model_inputs.keys()
            )
            for joined, whole in zip(self.prompts(found), wholes, strict=False)
        )

    def prompts(self, asked: Asked) -> list[Group]:
        """The whole prompts, all with the same tensors of pixels."""
        return [self._followed(asked.shared, rest) for rest in asked.rests]

    def _followed(self, shared: Group, rest: Tensor) -> Group:
        """A prompt with text behind it."""
        along = {}
        for name in self._along & shared.model_inputs.keys():
            value = shared.model_inputs[name]
            last = value[:, -1:] if name in self.family.continues else torch.zeros_like(value[:, -1:])
            along[name] = torch.cat([value, last.expand(-1, len(rest), *value.shape[2:])], dim=1)
        ids = torch.cat([shared.prompt_ids, rest])
        return replace(shared, prompt_ids=ids, model_inputs={**shared.model_inputs, **along})

    @property
    def _along(self) -> set[str]:
        return {*self.family.along_tokens, *self.family.continues}


@torch.no_grad()
def answer(
    model: nn.Module, processor: ProcessorMixin, asked: Sequence[Asked], *, max_new_tokens: int
) -> list[list[Tensor]]:
    """Greedy answers to every question of every picture, as `generation.generate` gives them one by one; on the CPU."""
    family = family_of(model)
    settings = token_settings(family.model, processor, family)
    with in_eval_mode(model):
        answers = list(_answers(family, asked, settings, max_new_tokens))
    grouped = iter(answers)
    return [[next(grouped) for _ in one.rests] for one in asked]


def _answers(family: Family, asked: Sequence[Asked], settings: dict[str, Any], max_new_tokens: int) -> Iterator[Tensor]:
    """Answers picture by picture, question by question."""
    model, device = family.model, family.model.device
    cache = DynamicCache(config=model.config.get_text_config())
    read = _read_shared(family, asked, cache, settings["pad_token_id"])
    counts = torch.tensor([len(one.rests) for one in asked], device=device)
    owner = torch.arange(len(asked), device=device).repeat_interleave(counts)
    cache.batch_select_indices(owner)
    rests = [rest for one in asked for rest in one.rests]
    lengths = torch.tensor([len(rest) for rest in rests], device=device)
    longest = int(lengths.max())
    ids = torch.stack([left_padded(rest, longest, settings["pad_token_id"]) for rest in rests]).to(device)
    columns = torch.arange(longest, device=device)
    within = columns - (longest - lengths)[:, None]
    mask = torch.cat([read.mask[owner], (within >= 0).long()], dim=1)
    # where a question's first token stands; padding in front of it stands anywhere, nobody sees it
    positions = (read.next_position[owner][:, None] + within).clamp(min=0)
    ends = torch.tensor(settings["eos_token_id"], device=device)
    done = torch.zeros(len(rests), dtype=torch.bool, device=device)
    said: list[Tensor] = []
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions.expand(*read.axes, *positions.shape),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1]
        logits[:, settings["suppress_tokens"] or []] = -torch.inf
        said.append(logits.argmax(-1))
        done |= torch.isin(said[-1], ends)
        if done.all():
            break
        ids, positions = said[-1][:, None], positions[:, -1:] + 1
        mask = nn.functional.pad(mask, (0, 1), value=1)
    for row in torch.stack(said, dim=1).cpu():
        ended = torch.isin(row, ends.cpu()).nonzero()
        yield row[: int(ended[0]) + 1].clone() if len(ended) else row


class Read(NamedTuple):
    """What was read of each picture: its mask, the position where questions begin, and the shape of position axes."""

    mask: Int[Tensor, "pictures length"]
    next_position: Int[Tensor, " pictures"]
    axes: tuple[int, ...]


def _read_shared(family: Family, asked: Sequence[Asked], cache: DynamicCache, padding: int) -> Read:
    """Read what the prompts share into the cache."""
    model = family.model
    groups = [family.place(one.shared) for one in asked]
    length = max(len(group.prompt_ids) for group in groups)
    mask = torch.stack([left_padded(torch.ones_like(g.prompt_ids), length, 0) for g in groups])
    inputs = family.concatenate([group.model_inputs for group in groups])
    for name in family.along_tokens:
        if any(name in group.model_inputs for group in groups):
            inputs[name] = torch.stack([left_padded(g.model_inputs[name][0], length, 0) for g in groups])
    positions = torch.stack([_positions(g, length) for g in groups], dim=-2)
    call = {
        "input_ids": torch.stack([left_padded(g.prompt_ids, length, padding) for g in groups]),
        "attention_mask": mask,
        "position_ids": positions,
        **inputs,
    }
    call = {name: v.to(model.device) if isinstance(v, Tensor) else v for name, v in call.items()}
    model(**call, past_key_values=cache, use_cache=True, logits_to_keep=1)
    next_position = torch.tensor([g.next_position for g in groups], device=model.device)
    return Read(call["attention_mask"], next_position, tuple(positions.shape[:-2]))


def _positions(group: Group, length: int) -> Int[Tensor, "*axes length"]:
    assert group.positions is not None
    return nn.functional.pad(group.positions, (length - len(group.prompt_ids), 0))
