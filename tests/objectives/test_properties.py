"""For any log-probs, ±10⁴ and equal pairs among them, losses and gradients are finite numbers, never NaN."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.objectives.ddpo import segment_weighted_mean
from sightline.objectives.ld_dpo import length_desensitised, position_in_response
from sightline.objectives.wpo import wpo_weights
from tests.drawn import drawn
from tests.objectives.every import EVERY, build_from
from tests.objectives.made_steps import columns_of, make_groups, make_log_probs, total_loss
from tests.objectives.test_values import REFERENCED

nats = st.one_of(
    st.sampled_from([0.0, -1e4, 1e4, -1e-7, -1.0]), st.floats(-1e4, 1e4, width=32), st.floats(-30, 0, width=32)
)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, requires_grad=True)


@pytest.mark.parametrize("name", REFERENCED)
@given(pairs=st.lists(st.tuples(nats, nats, nats, nats), min_size=1, max_size=4))
@settings(max_examples=drawn(60), deadline=None)
def test_pair_losses_are_finite(name, pairs):
    four = [tensor(list(values)) for values in zip(*pairs, strict=True)]
    options = {"shift": torch.tensor(0.25)} if "shifted" in name else {}
    lengths = torch.ones(len(pairs))
    loss_function = REFERENCED[name]
    if name in ("ipo", "sigmoid_norm"):
        from sightline.objectives.ipo import ipo_loss
        from sightline.objectives.sigmoid_norm import sigmoid_norm_loss

        function = ipo_loss if name == "ipo" else sigmoid_norm_loss
        loss = function(*four, lengths, lengths, beta=0.5)
    else:
        loss = loss_function(*four, **options)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(values.grad.isfinite().all() for values in four if values.grad is not None)


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
@given(data=st.data())
@settings(max_examples=drawn(25), deadline=None)
def test_whole_objectives_are_finite_in_value_gradient_and_metrics(options, data):
    objective = build_from(options)
    groups = make_groups(2, objective, seed=data.draw(st.integers(0, 5)))
    made = make_log_probs(groups, seed=1, dtype=torch.float32)
    num = len(made.logp)
    policy = replace(made, logp=tensor(data.draw(st.lists(nats, min_size=num, max_size=num))))
    same = data.draw(st.booleans())
    reference = policy if same else replace(made, logp=tensor(data.draw(st.lists(nats, min_size=num, max_size=num))))
    loss = total_loss(objective, groups, policy, reference)
    (gradient,) = torch.autograd.grad(loss, policy.logp)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    for part in objective(policy, reference, columns_of(groups)).values():
        assert all(total.isfinite() for total, _ in part.metrics.values())


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_equal_pairs_and_the_ends_of_the_range_are_finite(options):
    """Every response of the policy alike and every one of the reference alike, at 0 and ±10⁴ nats per token."""
    objective = build_from(options)
    groups = make_groups(2, objective, seed=0, segments=False)
    made = make_log_probs(groups, seed=1, dtype=torch.float32)
    for nats_of_policy, nats_of_reference in itertools.product((0.0, -1e4, 1e4), repeat=2):
        policy = replace(made, logp=torch.full_like(made.logp, nats_of_policy).requires_grad_())
        reference = replace(made, logp=torch.full_like(made.logp, nats_of_reference))
        loss = total_loss(objective, groups, policy, reference)
        (gradient,) = torch.autograd.grad(loss, policy.logp)
        assert loss.isfinite() and gradient.isfinite().all(), (nats_of_policy, nats_of_reference)


def test_positions_count_target_tokens_of_each_response_wherever_they_stand():
    groups = make_groups(2, build_from({"type": "dpo"}))
    made = make_log_probs(groups, seed=1)
    shuffled = torch.randperm(len(made.logp), generator=torch.Generator().manual_seed(0))
    shuffled = shuffled[torch.argsort(made.response[shuffled], stable=True)]
    positions = position_in_response(made)
    expected = torch.cat([torch.arange(1, len(r) + 1) for g in groups for r in g.responses])
    assert positions.tolist() == expected.tolist()
    interleaved = torch.argsort(expected, stable=True)
    moved = replace(made, **{n: getattr(made, n)[interleaved] for n in ("logp", "weight", "response")})
    assert position_in_response(moved).tolist() == expected[interleaved].tolist()


def test_ld_dpo_with_alpha_1_changes_nothing_and_with_0_cuts_to_the_shorter_response():
    groups = make_groups(3, build_from({"type": "dpo"}))
    made = make_log_probs(groups, seed=1)
    assert torch.equal(length_desensitised(made, alpha=1.0).weight, made.weight)
    cut = length_desensitised(made, alpha=0.0).lengths
    lengths = made.lengths
    shorter = torch.minimum(lengths[0::2], lengths[1::2])
    assert torch.equal(cut[0::2], shorter) and torch.equal(cut[1::2], shorter)


def test_wpo_weighs_a_typical_sample_1_and_is_detached():
    groups = make_groups(1, build_from({"type": "dpo"}))
    made = make_log_probs(groups, seed=1)
    typical = replace(made, log_sum_sq=made.logp.detach())
    assert torch.allclose(wpo_weights(typical), torch.ones(2, dtype=torch.float64))
    assert not wpo_weights(made).requires_grad


def test_ddpo_with_equal_weights_is_the_mean_and_corrected_segments_weigh_more():
    groups = make_groups(1, build_from({"type": "ddpo"}), segments=False)
    made = make_log_probs(groups, seed=1)
    assert torch.allclose(segment_weighted_mean(made), made.mean())
    first = torch.zeros_like(made.weight)
    first[0] = 1
    heavier = replace(made, weight=made.weight + 1e6 * first)
    assert segment_weighted_mean(heavier)[0].item() == pytest.approx(made.logp[0].item(), abs=1e-4)
