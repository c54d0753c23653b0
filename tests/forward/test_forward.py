"""One call of the model, log-probs for logits."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sightline.config import LoraConfig
from sightline.errors import ModelError
from sightline.forward import plain
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.load import unfreeze
from sightline.models.lora import add_lora
from tests.loaded import Loaded

Load = Callable[..., Loaded]


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of one, so that real DDP can be built."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("lay_out", [prefix.lay_out, padded.lay_out], ids=["prefix", "padded"])
@pytest.mark.usefixtures("one_process")
def test_the_wrapped_model_is_called_once(loaded: Load, lay_out: Callable) -> None:
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=2))
    wrapped = nn.parallel.DistributedDataParallel(policy)
    calls = []
    wrapped.register_forward_pre_hook(lambda *_: calls.append("wrapped"))
    policy.register_forward_pre_hook(lambda *_: calls.append("policy"))
    groups = [llava.group(seed=1), llava.group(seed=2)]
    found = log_probs(wrapped, lay_out(groups), groups=groups, features=encode(wrapped, groups))
    assert calls == ["wrapped", "policy"]
    found.logp.sum().backward()
    assert all(p.grad is not None for p in policy.parameters() if p.requires_grad)


def test_logits_of_the_whole_grid_never_exist(loaded: Load) -> None:
    llava = loaded("llava")
    model = unfreeze(llava.model, llava.config)
    groups = [llava.group()]
    seen: list[tuple[int, ...]] = []
    model.lm_head.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape)))
    batch = prefix.lay_out(groups)
    log_probs(model, batch, groups=groups, features=encode(model, groups), statistics=True)
    assert seen == [(1, len(batch.target), 5)]


def test_statistics_belong_to_the_distribution_that_plain_logits_give(loaded: Load) -> None:
    llava = loaded("llava")
    group = llava.group()
    batch = prefix.lay_out([group])
    found = log_probs(llava.model, batch, groups=[group], features=None, statistics=True, temperature=0.5)
    rows = []
    for response in group.responses:
        ids = torch.cat([group.prompt_ids, response])[None]
        logits = llava.model(input_ids=ids, attention_mask=torch.ones_like(ids), **group.model_inputs).logits
        rows.append(logits[0, len(group.prompt_ids) - 1 : -1])
    logits = torch.cat(rows)
    p = (logits / 0.5).softmax(-1)
    assert found.entropy is not None and found.mean_logit is not None and found.log_sum_sq is not None
    torch.testing.assert_close(found.logp, p.log().gather(-1, batch.target[:, None])[:, 0])
    torch.testing.assert_close(found.entropy, -(p * p.log()).sum(-1))
    torch.testing.assert_close(found.mean_logit, logits.mean(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.log_sum_sq, p.square().sum(-1).log())
    assert found.top1 is not None and torch.equal(found.top1, p.argmax(-1) == batch.target)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3"])
def test_a_placeholder_in_a_response_is_scored_and_takes_no_features(loaded: Load, name: str) -> None:
    family = loaded(name)
    group = family.group(lengths=(6, 4))
    placeholder = family_of(family.model).image_token_ids[0]
    response = group.responses[0].clone()
    response[2] = placeholder
    odd = replace(group, responses=(response, group.responses[1]))
    features = encode(family.model, [group])
    batch = prefix.lay_out([odd])
    assert int(batch.target[2]) == placeholder
    found = log_probs(family.model, batch, groups=[odd], features=features).logp
    usual = log_probs(family.model, prefix.lay_out([group]), groups=[group], features=features).logp
    assert found.isfinite().all()
    assert torch.equal(found[[0, 1, *range(6, 10)]], usual[[0, 1, *range(6, 10)]])
    both = log_probs(family.model, padded.lay_out([odd]), groups=[odd], features=features).logp
    torch.testing.assert_close(found, both, rtol=0, atol=1e-5)


def test_the_head_is_given_back_even_after_an_error(loaded: Load) -> None:
    llava = loaded("llava")
    group = llava.group()
    broken = replace(group, model_inputs={**group.model_inputs, "pixel_values": torch.zeros(1, 3, 3, 3)})
    with pytest.raises(ValueError):
        log_probs(llava.model, prefix.lay_out([broken]), groups=[broken], features=None)
    logits = llava.model(input_ids=torch.tensor([[1, 2]])).logits
    assert logits.shape == (1, 2, llava.model.config.text_config.vocab_size)


def test_a_model_that_rescales_its_logits_is_refused(loaded: Load) -> None:
    llava = loaded("llava")
    forward = llava.model.forward

    def rescaled(*args, **options):
        output = forward(*args, **options)
        output.logits = output.logits * 0.5
        return output

    llava.model.forward = rescaled
    with pytest.raises(ModelError, match="changes its logits"):
        log_probs(llava.model, prefix.lay_out([llava.group()]), groups=[llava.group()], features=None)


def test_shared_images_score_as_the_groups_they_came_from(loaded: Load) -> None:
    from sightline.layout import share_prefix
    from tests.groups import make_group

    for name in ("llava", "qwen2_vl", "idefics3"):
        family = loaded(name)
        groups = [
            make_group(family.processor, seed=3, lengths=(5, 2), question="What is it?"),
            make_group(family.processor, seed=3, lengths=(4,), question="What is shown? yes or no"),
        ]
        shared = share_prefix(groups, family.processor.image_token_ids)
        assert shared is not None
        shared = family_of(family.model).place(shared)
        batch = prefix.lay_out([shared])
        found = log_probs(family.model, batch, groups=[shared], features=encode(family.model, [shared])).logp
        expected = torch.cat([logp for g in groups for logp in plain.log_probs(family.model, g, name)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_bfloat16_weights_with_float32_adapters_train_under_autocast(loaded: Load) -> None:
    for name in ("llava", "qwen2_vl", "idefics3", "mllama", "gemma3"):
        family = loaded(name, dtype="bfloat16")
        policy = add_lora(family.model, LoraConfig(r=2))
        groups = [family.group(), family.group(seed=1, sizes=((30, 40), (50, 20)))]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = log_probs(policy, prefix.lay_out(groups), groups=groups, features=encode(policy, groups))
            expected = log_probs(policy, padded.lay_out(groups), groups=groups, features=encode(policy, groups))
        assert found.logp.dtype == torch.float32
        assert (found.logp - expected.logp).abs().max() < 0.5, name
        found.logp.sum().backward()
        trained = [p for p in policy.parameters() if p.requires_grad]
        assert all(p.dtype == torch.float32 and p.grad is not None for p in trained)
