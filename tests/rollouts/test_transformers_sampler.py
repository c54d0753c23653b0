"""Sampling with a shared prompt gives what transformers' own `generate` gives, with the trainer's log-probs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import PreTrainedModel, ProcessorMixin

from sightline.config import LoraConfig, ModelConfig
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.layout import padded, prefix
from sightline.models.families.find import Family, family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.rollouts.sampler import TransformersSampler
from sightline.types import Group, Prompt
from tests.groups import make_group

FAMILIES = [
    "llava", "llava_next", "idefics2", "idefics3", "smolvlm", "internvl", "paligemma", "paligemma2", "gemma3", "mllama",
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5",
]  # fmt: skip
GREEDY = SamplingSettings(max_new_tokens=8, temperature=0.0)


class Policy(NamedTuple):
    model: PreTrainedModel
    processor: ProcessorMixin
    prompts: list[Prompt]

    @property
    def groups(self) -> list[Group]:
        return [prompt.group for prompt in self.prompts]

    def sample(self, num_responses: int, settings: SamplingSettings, seed: int = 0, **options) -> list[list[Sampled]]:
        return TransformersSampler(self.model, self.processor, **options).sample(
            self.prompts, num_responses, settings, seed
        )


@pytest.fixture(scope="module")
def policy(tiny_model: Callable[[str], Path]) -> Callable[[str], Policy]:
    """A tiny model with three prompts of different lengths, their responses still to come."""
    loaded: dict[str, Policy] = {}

    def load(family: str) -> Policy:
        if family not in loaded:
            config = ModelConfig(name=str(tiny_model(family)))
            model, processor = load_model(config), load_processor(config)
            questions = ["What is it?", "Describe the image in all detail.", "Is there a cat?"]
            groups = [make_group(processor, question=q, lengths=(), seed=i) for i, q in enumerate(questions)]
            loaded[family] = Policy(model, processor, [Prompt(group=group, messages=(), text="") for group in groups])
        return loaded[family]

    return load


def ids(sampled: list[list[Sampled]]) -> list[list[list[int]]]:
    return [[answer.ids.tolist() for answer in answers] for answers in sampled]


@pytest.mark.parametrize("family", FAMILIES)
def test_training_agrees_with_the_samplers_log_probs(policy, family):
    model, groups = policy(family).model, policy(family).groups
    settings = SamplingSettings(max_new_tokens=8, temperature=1.3, top_k=50)
    sampled = policy(family).sample(4, settings)
    answered = [
        family_of(model).place(
            replace(
                group,
                responses=tuple(one.ids for one in answers),
                weights=tuple(torch.ones(len(one.ids)) for one in answers),
            )
        )
        for group, answers in zip(groups, sampled, strict=True)
    ]
    lay_out = prefix.lay_out if family_of(model).layout == "prefix" else padded.lay_out
    with torch.no_grad():
        scored = log_probs(model, lay_out(answered), groups=answered, features=encode(model, answered), temperature=1.3)
    theirs = torch.cat([one.log_probs for answers in sampled for one in answers])
    assert (scored.logp - theirs).abs().max() < 1e-4
    assert theirs.unique().numel() > 20, "a constant would agree with anything"


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "mllama"])
def test_the_seed_decides(policy, family):
    settings = SamplingSettings(max_new_tokens=6)
    policy(family)  # the model is made, at random, where nobody had asked for it yet
    before = torch.get_rng_state()
    first = ids(policy(family).sample(3, settings, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    assert ids(policy(family).sample(3, settings, seed=7)) == first
    assert ids(policy(family).sample(3, settings, seed=8)) != first
    assert len({tuple(answer) for answer in first[0]}) > 1


def test_the_prompt_is_read_once_a_group(policy):
    model, processor, prompts = policy("llava")
    read = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        TransformersSampler(model, processor).sample(prompts, 5, SamplingSettings(max_new_tokens=3), 0)
    finally:
        hook.remove()
    longest = max(len(prompt.group.prompt_ids) for prompt in prompts)
    assert read == [(3, longest), (15, 1), (15, 1)]


def test_answers_come_in_the_order_of_the_prompts_whatever_the_batch(policy):
    assert ids(policy("smolvlm").sample(1, GREEDY, batch_size=2)) == ids(policy("smolvlm").sample(1, GREEDY))


def test_ended_answers_leave_and_the_others_go_on_undisturbed(policy):
    """Hot enough for the end token to come up often; log-probs of every token still are the model's."""
    settings = SamplingSettings(max_new_tokens=90, temperature=9.0)
    sampled = policy("llava").sample(24, settings)
    end = policy("llava").processor.tokenizer.eos_token_id
    answers = [answer for group in sampled for answer in group]
    ended = [answer for answer in answers if answer.finished]
    assert len(answers) / 20 < len(ended) < len(answers)
    assert all((a.ids == end).sum() == 1 and a.ids[-1] == end for a in ended)
    assert all(len(a.ids) == 90 and end not in a.ids for a in answers if not a.finished)
    family, group = family_of(policy("llava").model), policy("llava").groups[0]
    for answer in sampled[0][:3]:
        one = family.place(replace(group, responses=(answer.ids,), weights=(torch.ones(len(answer.ids)),)))
        with torch.no_grad():
            scored = log_probs(family.model, prefix.lay_out([one]), groups=[one], features=None, temperature=9.0)
        assert (scored.logp - answer.log_probs).abs().max() < 1e-4


def test_image_placeholders_are_never_sampled(policy, monkeypatch):
    """The likeliest token stands in for a placeholder."""
    likeliest = ids(policy("llava").sample(1, GREEDY))[0][0][0]
    monkeypatch.setattr(Family, "image_token_ids", property(lambda family: (likeliest,)))
    greedy = policy("llava").sample(1, GREEDY)[0]
    drawn = policy("llava").sample(64, SamplingSettings(max_new_tokens=1))[0]
    assert all(likeliest not in answer.ids for answer in [*greedy, *drawn])


@pytest.mark.parametrize("family", ["llava", "mllama"])
def test_an_answer_ends_after_a_stop_text(policy, family):
    tokenizer = policy(family).processor.tokenizer
    free = policy(family).sample(16, SamplingSettings(max_new_tokens=12))
    text = tokenizer.decode(free[0][0].ids[3:5])
    stopped = policy(family).sample(16, SamplingSettings(max_new_tokens=12, stop=(text,)))
    first = stopped[0][0]
    assert first.finished and tokenizer.decode(first.ids).endswith(text)
    assert first.ids.tolist() == free[0][0].ids[: len(first.ids)].tolist()


@pytest.mark.parametrize("family", ["llava", "mllama"])
@pytest.mark.parametrize("limit", [{"top_k": 2}, {"top_p": 0.2}, {"min_p": 0.9}])
def test_top_k_top_p_and_min_p_narrow_what_is_drawn(policy, family, limit):
    free = policy(family).sample(32, SamplingSettings(max_new_tokens=1, temperature=3.0))
    narrow = policy(family).sample(32, SamplingSettings(max_new_tokens=1, temperature=3.0, **limit))
    drawn = [{int(a.ids[0]) for a in one[0]} for one in (free, narrow)]
    assert len(drawn[1]) < len(drawn[0])
    if "top_k" in limit:
        assert len(drawn[1]) <= 2


def test_a_trained_adapter_is_sampled_from(tiny_model):
    config = ModelConfig(name=str(tiny_model("llava")))
    processor = load_processor(config)
    model = add_lora(load_model(config), LoraConfig(r=4))
    adapted = Policy(model, processor, [Prompt(group=make_group(processor, lengths=()), messages=(), text="")])
    before = ids(adapted.sample(1, GREEDY))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 1, generator=torch.Generator().manual_seed(0))
    model.train()
    assert ids(adapted.sample(1, GREEDY)) != before
    assert model.training


def test_answers_do_not_depend_on_what_else_is_sampled(policy):
    settings = SamplingSettings(max_new_tokens=6, temperature=2.0)
    prompts = [replace(prompt, place=7 + i) for i, prompt in enumerate(policy("llava").prompts)]
    sampler = TransformersSampler(policy("llava").model, policy("llava").processor)
    together = ids(sampler.sample(prompts, 3, settings, seed=1))
    apart = [ids(sampler.sample([prompt], 3, settings, seed=1))[0] for prompt in prompts]
    assert apart == together and len({tuple(map(tuple, answers)) for answers in together}) == len(prompts)
