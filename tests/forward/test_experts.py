"""A mixture of experts: its router loss is the model's own, and its gradient reaches the routers."""

from collections.abc import Callable

import pytest
import torch

from sightline.forward import plain
from sightline.forward.experts import times_read
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.load import unfreeze
from tests.loaded import Loaded
from tests.training.runs import curve, pairs, run

Load = Callable[..., Loaded]
COEFFICIENT = 0.001
"""Of transformers' config of Qwen3-VL with experts."""


def test_router_losses_arrive_unchanged(loaded: Load) -> None:
    experts = loaded("qwen3_vl_moe")
    model = unfreeze(experts.model, experts.config)
    group = experts.group(lengths=(7,))
    inputs = {
        **group.model_inputs,
        "mm_token_type_ids": torch.nn.functional.pad(group.model_inputs["mm_token_type_ids"], (0, 7)),
    }
    ids = torch.cat([group.prompt_ids, group.responses[0]])[None]
    output = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, output_router_logits=True, **inputs
    )
    found = log_probs(model, padded.lay_out([group]), groups=[group], features=encode(model, [group]))
    assert found.router_loss is not None
    torch.testing.assert_close(found.router_loss, COEFFICIENT * output.aux_loss)
    routers = [p for name, p in model.named_parameters() if name.endswith("mlp.gate.weight")]
    expected = torch.autograd.grad(COEFFICIENT * output.aux_loss, routers)
    for mine, theirs in zip(torch.autograd.grad(found.router_loss, routers), expected, strict=True):
        assert theirs.any()
        torch.testing.assert_close(mine, theirs)


def test_a_class_that_inherits_its_forward_has_what_is_written_there(loaded: Load) -> None:
    """The router loss of experts and the cap of Gemma 2, in subclasses of somebody's own."""
    experts, capped = loaded("qwen3_vl_moe"), loaded("paligemma2")
    for one in (experts, capped):
        one.model.__class__ = type("Mine", (type(one.model),), {})
    group, mine = experts.group(lengths=(7,)), family_of(experts.model)
    found = log_probs(experts.model, padded.lay_out([group]), groups=[group], features=encode(experts.model, [group]))
    assert found.router_loss is not None and mine.router_coefficient == COEFFICIENT
    assert family_of(capped.model).softcap == capped.model.config.text_config.final_logit_softcapping


@pytest.mark.parametrize("smallest_group", [0, 10_000], ids=["our kernel", "sdpa"])
@pytest.mark.parametrize("kind", ["qwen3_vl_moe", "qwen3_5_moe"])
def test_a_shared_prompt_counts_for_all_its_responses(
    loaded: Load, kind: str, smallest_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and gradient of the router loss are those of the padded rows, packed prompts and padding included."""
    monkeypatch.setattr("sightline.attention.attention.SMALLEST_GROUP", smallest_group)
    experts = loaded(kind)
    model = unfreeze(experts.model, experts.config)
    groups = [experts.group(lengths=(7, 3, 5)), experts.group(seed=1, lengths=(2,)), experts.group(seed=2)]
    features = encode(model, groups)
    losses, gradients = [], []
    for batch in (padded.lay_out(groups), prefix.lay_out(groups), prefix.lay_out(groups, row_length=10**4)):
        found = log_probs(model, batch, groups=groups, features=features).router_loss
        assert found is not None
        routers = [p for name, p in model.named_parameters() if name.endswith("mlp.gate.weight")]
        losses.append(found.detach())
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(found, routers)]))
    unweighed = log_probs(model, prefix.lay_out(groups[:1]), groups=groups[:1], features=features.select([0]))
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss, losses[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-3, atol=1e-8)
    assert unweighed.router_loss is not None and not torch.isclose(unweighed.router_loss, losses[0], rtol=1e-6)


def test_every_token_counts_as_often_as_it_stands_in_padded_rows(loaded: Load) -> None:
    experts = loaded("qwen3_vl_moe")
    groups = [experts.group(lengths=(7, 3)), experts.group(seed=1, lengths=(2, 1, 1)), experts.group(seed=2)]
    plain, shared = padded.lay_out(groups), prefix.lay_out(groups, row_length=10**4)
    read = times_read(shared)
    for g in range(len(groups)):
        for prompt in (True, False):
            in_plain = int(((plain.group == g) & (plain.segment >= 0) & ((plain.segment == 0) == prompt)).sum())
            in_shared = int(read[(shared.group == g) & (shared.segment >= 0) & ((shared.segment == 0) == prompt)].sum())
            assert in_plain == in_shared > 0
    assert not read[shared.segment < 0].any()


def test_log_probs_are_those_of_plain_forwards_with_several_rows_and_none_without_gradient(loaded: Load) -> None:
    experts = loaded("qwen3_vl_moe")
    assert family_of(experts.model).layout == "prefix"
    groups = [experts.group(), experts.group(seed=1, sizes=((30, 40), (50, 20)))]
    with torch.no_grad():
        found = log_probs(experts.model, padded.lay_out(groups), groups=groups, features=encode(experts.model, groups))
        expected = torch.cat([logp for g in groups for logp in plain.log_probs(experts.model, g, "qwen3_vl_moe")])
    assert found.router_loss is None
    assert (found.logp - expected).abs().max() <= 1e-5


def test_training_logs_the_router_loss_and_moves_the_routers(tiny_model, tmp_path) -> None:
    options = {"lora": None, "layout": "auto", "max_steps": 2, "reference": {"type": "frozen-copy"}}
    run(tmp_path / "dpo", tiny_model("qwen3_vl_moe"), pairs(4), **options)
    logged = curve(tmp_path / "dpo", "aux_loss")
    # with balanced routers the loss is the number of experts that a token takes
    assert len(logged) == 2 and all(value > COEFFICIENT for value in logged)
