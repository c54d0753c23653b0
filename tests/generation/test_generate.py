"""Generation: batches give what single prompts give, samples are repeatable, placeholders are never said."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from sightline.config import LoraConfig, ModelConfig
from sightline.data.media.images import LazyImage
from sightline.data.render.render import Renderer
from sightline.generation.generate import generate
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.types import Example, Group

QUESTIONS = (
    "What is this?",
    "Describe the image in detail.",
    "Yes or no?",
    "Is there a red square in this image? 1 2 3",
)


class Policy(NamedTuple):
    model: PreTrainedModel
    processor: ProcessorMixin
    groups: list[Group]


@pytest.fixture(scope="module")
def policy(tiny_model: Callable[[str], Path]) -> Callable[[str], Policy]:
    """A tiny model with four prompts of different lengths and images of different sizes."""

    def load(family: str) -> Policy:
        config = ModelConfig(name=str(tiny_model(family)))
        processor = load_processor(config)
        return Policy(load_model(config), processor, [prompt(processor, i) for i in range(len(QUESTIONS))])

    return load


def prompt(processor: ProcessorMixin, number: int, with_image: bool = True) -> Group:
    pixels = np.random.RandomState(number).randint(0, 256, (90, 40 + 30 * number, 3), dtype=np.uint8)
    text = {"type": "text", "text": QUESTIONS[number]}
    content = [{"type": "image"}, text] if with_image else [text]
    images = (LazyImage(where="test", image=Image.fromarray(pixels)),) if with_image else ()
    example = Example(
        id=str(number),
        source="test",
        row_number=number,
        prompt=({"role": "user", "content": content},),
        images=images,
    )
    return Renderer(processor).prompt(example)


def same(a: list[list[Tensor]], b: list[list[Tensor]]) -> bool:
    return all(torch.equal(x, y) for u, v in zip(a, b, strict=True) for x, y in zip(u, v, strict=True))


@pytest.mark.parametrize("family", ["llava", "idefics2", "idefics3", "smolvlm", "qwen2_vl"])
def test_a_batch_of_ragged_prompts_answers_like_each_prompt_alone(family: str, policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy(family)
    assert len({len(g.prompt_ids) for g in groups}) > 1
    alone = [generate(model, processor, [g], max_new_tokens=6)[0] for g in groups]
    together = generate(model, processor, groups, max_new_tokens=6, batch_size=3)
    assert same(alone, together)
    assert len({tuple(a[0].tolist()) for a in alone}) > 1, "all answers alike: the test would not see a mix-up"


def test_every_greedy_token_is_the_likeliest_by_a_plain_forward(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    banned = list(family_of(model).image_token_ids)
    for group, (answer,) in zip(groups, generate(model, processor, groups, max_new_tokens=5), strict=True):
        ids = torch.cat([group.prompt_ids, answer])[None]
        with torch.no_grad():
            logits = model(input_ids=ids, **group.model_inputs).logits[0, len(group.prompt_ids) - 1 : -1]
        logits[:, banned] = -torch.inf
        assert logits.argmax(-1).tolist() == answer.tolist()


def test_a_prompt_without_a_image_may_stand_beside_one_with(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("qwen2_vl")
    mixed = [groups[0], prompt(processor, 1, with_image=False)]
    alone = [generate(model, processor, [g], max_new_tokens=4)[0] for g in mixed]
    assert same(alone, generate(model, processor, mixed, max_new_tokens=4))


def test_an_answer_ends_with_its_end_token_and_nothing_follows(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    end = processor.tokenizer.eos_token_id
    # hot enough for every token to come up now and then
    sampled = generate(
        model,
        processor,
        groups,
        max_new_tokens=60,
        do_sample=True,
        temperature=9.0,
        num_return=16,
        batch_size=64,
        seed=0,
    )
    answers = [a for group in sampled for a in group]
    ended = [a for a in answers if end in a]
    assert len(ended) > 0
    assert all((a == end).sum() == 1 and a[-1] == end for a in ended)
    assert all(len(a) == 60 for a in answers if end not in a)
    assert len({len(a) for a in answers}) > 1


def test_image_placeholders_are_never_sampled(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    banned = family_of(model).image_token_ids
    with torch.no_grad():
        model.lm_head.weight[list(banned)] = model.lm_head.weight.abs().max() * 10 * torch.ones(64).sign()
        free = model(input_ids=groups[0].prompt_ids[None], **groups[0].model_inputs).logits[0, -1]
    assert free.abs().argmax() in banned
    for sample in generate(model, processor, groups, max_new_tokens=8, do_sample=True, num_return=4, seed=0):
        assert not any(int(token) in banned for answer in sample for token in answer)


def test_samples_repeat_with_their_seed_and_leave_the_global_state_alone(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")

    def sample(seed: int) -> list[list[Tensor]]:
        return generate(model, processor, groups, max_new_tokens=6, do_sample=True, num_return=3, seed=seed)

    state = torch.get_rng_state()
    first, again, other = sample(1), sample(1), sample(2)
    assert torch.equal(state, torch.get_rng_state())
    assert same(first, again)
    assert not same(first, other)
    assert [len(s) for s in first] == [3] * len(groups)
    assert len({tuple(a.tolist()) for a in first[0]}) > 1


def test_top_k_of_one_is_greedy(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    greedy = generate(model, processor, groups, max_new_tokens=5)
    sampled = generate(model, processor, groups, max_new_tokens=5, do_sample=True, top_k=1, num_return=2, seed=3)
    assert same([[g[0], g[0]] for g in greedy], sampled)


def test_an_adapter_takes_part_and_dropout_does_not(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    base = generate(model, processor, groups, max_new_tokens=6)
    tuned = add_lora(model, LoraConfig(r=4, dropout=0.5))
    tuned.train()
    assert same(base, generate(tuned, processor, groups, max_new_tokens=6))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    changed = generate(tuned, processor, groups, max_new_tokens=6)
    assert same(changed, generate(tuned, processor, groups, max_new_tokens=6))
    assert not same(base, changed)
    assert tuned.training


def test_progress_counts_every_prompt_and_no_prompts_give_no_answers(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    calls: list[tuple[int, int]] = []
    generate(
        model,
        processor,
        groups,
        max_new_tokens=2,
        batch_size=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(3, 4), (4, 4)]
    assert generate(model, processor, [], max_new_tokens=2) == []


def test_several_greedy_completions_are_refused(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    with pytest.raises(ValueError, match="do_sample=True"):
        generate(model, processor, groups, max_new_tokens=2, num_return=2)
