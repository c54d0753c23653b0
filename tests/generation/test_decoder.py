"""The decoder writes what plain transformers writes, prompt by prompt, for every family and in every batch."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin, VipLlavaConfig, VipLlavaForConditionalGeneration

from sightline.config import ModelConfig
from sightline.forward.features import encode_as_it_is
from sightline.generation.decoder import CompletionBatch, read_prompts, special_tokens, write
from sightline.generation.generate import generate, sample, stream
from sightline.generation.sampling import SamplingSettings
from sightline.models.families.find import FAMILIES, Family, family_of
from sightline.models.load import load_model, load_processor
from sightline.rehearsal.tiny_models import NAMED
from sightline.types import Group
from tests.groups import make_group

KINDS = [*sorted(NAMED), "vipllava"]
"""Every tiny model by name, and VipLLaVA as a type that is not known: transformers' `generate` writes its answers."""
LENGTH = 8
QUESTIONS = ("What is it?", "Describe the image in all detail.", "Is there a cat?")


@pytest.fixture(autouse=True)
def _one_type_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, "vipllava")


class Policy(NamedTuple):
    model: PreTrainedModel
    processor: ProcessorMixin
    groups: list[Group]


@pytest.fixture(scope="module")
def policy(tiny_model: Callable[[str], Path]) -> Callable[[str], Policy]:
    """A tiny model, and prompts of different lengths with images of different sizes."""
    loaded: dict[str, Policy] = {}

    def load(kind: str) -> Policy:
        if kind not in loaded:
            config = ModelConfig(name=str(tiny_model("llava" if kind == "vipllava" else kind)))
            model, processor = load_model(config), load_processor(config)
            if kind == "vipllava":
                model = vip_llava(model)
            if kind.startswith("paligemma"):
                # tied to the embeddings, the head repeats the line break that ends every prompt
                head = model.get_output_embeddings()
                head.weight = nn.Parameter(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0)))
            groups = [
                make_group(processor, sizes=((50, 40 + 30 * i),), question=question, lengths=(), seed=i)
                for i, question in enumerate(QUESTIONS)
            ]
            loaded[kind] = Policy(model, processor, groups)
        return loaded[kind]

    return load


def vip_llava(llava: PreTrainedModel) -> PreTrainedModel:
    """A tiny VipLLaVA that takes LLaVA's inputs."""
    torch.manual_seed(0)
    config = VipLlavaConfig(
        text_config=llava.config.text_config,
        vision_config=llava.config.vision_config,
        image_token_index=llava.config.image_token_id,
        vision_feature_layers=[-2],
    )
    model = VipLlavaForConditionalGeneration(config).eval()
    model.generation_config = llava.generation_config
    for weight in model.parameters():
        if weight.ndim >= 2:
            weight.data.mul_(3.0)
    return model


def plain(policy: Policy, groups: list[Group]) -> list[list[int]]:
    """Greedy answers by transformers alone, each prompt in a batch of its own."""
    model, processor, _ = policy
    tokens = special_tokens(processor, family_of(model))
    answers = []
    for group in groups:
        output = model.generate(
            input_ids=group.prompt_ids[None],
            attention_mask=torch.ones(1, len(group.prompt_ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=LENGTH,
            suppress_tokens=tokens.banned,
            eos_token_id=tokens.ends,
            **group.model_inputs,
        )
        answers.append(output[0, len(group.prompt_ids) :].tolist())
    return answers


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_completions_are_those_of_plain_transformers(policy: Callable[[str], Policy], kind: str) -> None:
    model, processor, groups = policy(kind)
    expected = plain(policy(kind), groups)
    assert len({tuple(answer) for answer in expected}) > 1, "answers all alike would hide a mix-up"
    assert family_of(model).decodes == (kind != "vipllava")
    found = generate(model, processor, groups, max_new_tokens=LENGTH)
    assert [answer.tolist() for (answer,) in found] == expected


@pytest.mark.parametrize("kind", ["llava", "qwen3_vl", "mllama", "gemma3", "qwen3_5"])
def test_features_that_were_computed_before_stand_for_the_image(policy: Callable[[str], Policy], kind: str) -> None:
    model, processor, groups = policy(kind)
    features = encode_as_it_is(model, groups)
    assert features is not None
    towers = []
    tower = model.get_submodule(family_of(model).vision_name)
    hook = tower.register_forward_hook(lambda *_: towers.append(1))
    found = generate(model, processor, groups, max_new_tokens=LENGTH, features=features)
    hook.remove()
    assert [answer.tolist() for (answer,) in found] == plain(policy(kind), groups)
    assert towers == []


@pytest.mark.parametrize("kind", ["llava", "mllama", "qwen3_5", "vipllava"])
def test_every_forked_answer_is_the_one_that_its_prompt_alone_would_get(
    policy: Callable[[str], Policy], kind: str
) -> None:
    """Hot enough for ended answers to leave the others; each answer's seed is its own."""
    model, processor, groups = policy(kind)
    settings = SamplingSettings(max_new_tokens=40, temperature=9.0)
    together = sample(model, processor, groups, 12, settings, seeds=[5, 6, 7], batch_size=36)
    for group, seed, answers in zip(groups, (5, 6, 7), together, strict=True):
        (alone,) = sample(model, processor, [group], 12, settings, seeds=[seed])
        for a, b in zip(alone, answers, strict=True):
            assert a.ids.tolist() == b.ids.tolist() and a.finished == b.finished
            assert a.log_probs is not None and b.log_probs is not None
            assert (a.log_probs - b.log_probs).abs().max() < 1e-4
    assert any(a.finished and len(a.ids) < 40 for answers in together for a in answers)


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "mllama"])
def test_a_past_that_is_forked_unevenly_goes_on_as_each_of_its_rows_would(
    policy: Callable[[str], Policy], kind: str
) -> None:
    model, processor, groups = policy(kind)
    family, settings = family_of(model), SamplingSettings(max_new_tokens=LENGTH, temperature=0.0)
    rows = torch.tensor([2, 0, 0, 2])
    answers = CompletionBatch(len(rows), processor, family, settings)
    with torch.no_grad():
        past, logits = read_prompts(family, groups, answers.tokens.padding)
        past.fork(rows)
        for _ in write(past, logits[rows], answers):
            pass
    expected = plain(policy(kind), groups)
    assert [answer.ids.tolist() for answer in answers.sampled()] == [expected[row] for row in rows.tolist()]


@pytest.mark.parametrize("kind", ["llava", "mllama", "qwen3_5", "vipllava"])
def test_a_stream_gives_the_answer_token_by_token(policy: Callable[[str], Policy], kind: str) -> None:
    model, processor, groups = policy(kind)
    model.train()
    forwards: list[bool] = []
    hook = model.register_forward_pre_hook(lambda *_: forwards.append(model.training or torch.is_grad_enabled()))
    seen = []
    for token in stream(model, processor, groups[0], max_new_tokens=LENGTH):
        seen.append((token, len(forwards)))
        assert model.training and torch.is_grad_enabled(), "the caller's mode is its own between tokens"
    hook.remove()
    model.eval()
    assert not any(forwards)
    ends = special_tokens(processor, family_of(model)).ends
    assert [token for token, _ in seen] == [token for token in plain(policy(kind), groups[:1])[0] if token not in ends]
    if kind != "vipllava":
        assert [number for _, number in seen] == list(range(1, len(seen) + 1)), "a forward for each token"


def test_an_answer_ends_after_a_stop_text_wherever_it_is_written(policy: Callable[[str], Policy]) -> None:
    for kind in ("llava", "vipllava"):
        model, processor, groups = policy(kind)
        whole = plain(policy(kind), groups[:1])[0]
        decode = processor.tokenizer.decode
        text = next(word for token in whole[2:] if (word := decode([token])).isascii() and word.strip())
        end = next(k for k in range(1, LENGTH) if text in decode(whole[:k]))
        (answer,) = generate(model, processor, groups[:1], max_new_tokens=LENGTH, stop=(text,))[0]
        assert answer.tolist() == whole[:end] and len(whole) == LENGTH


def test_a_model_left_to_transformers_draws_as_the_decoder_does(
    policy: Callable[[str], Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model both ways: tokens, log-probs and ends."""
    model, processor, groups = policy("llava")
    settings, found = SamplingSettings(max_new_tokens=60, temperature=9.0), []
    state = torch.get_rng_state()
    for decodes in (True, False):
        monkeypatch.setattr(Family, "decodes", decodes)
        answers = sample(model, processor, groups, 16, settings, seeds=[1, 2, 3], batch_size=48)
        found.append([answer for several in answers for answer in several])
    for ours, theirs in zip(*found, strict=True):
        assert ours.ids.tolist() == theirs.ids.tolist() and ours.finished == theirs.finished
        assert (ours.log_probs - theirs.log_probs).abs().max() < 1e-4
    assert any(answer.finished for answer in found[0])
    assert torch.equal(state, torch.get_rng_state())


def test_sampling_at_no_temperature_is_refused(policy: Callable[[str], Policy]) -> None:
    model, processor, groups = policy("llava")
    with pytest.raises(ValueError, match="do_sample=False"):
        generate(model, processor, groups, max_new_tokens=2, do_sample=True, temperature=0.0)
