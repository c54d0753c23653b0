"""Objectives over rewards: by hand, at their limits, against TRL's own trainers, under any cut, for any log-probs."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import GRPOTrainer, RLOOTrainer
from trl.rewards import get_soft_overlong_punishment

from sightline.config.online_objectives import OnlineObjectiveConfig
from sightline.errors import RecipeError
from sightline.objectives.objective import Objective, build
from sightline.objectives.online.advantages import (
    batch_advantages,
    group_advantages,
    leave_one_out_advantages,
    without_variance,
)
from sightline.objectives.online.cispo import cispo_loss
from sightline.objectives.online.clip import clipped_loss
from sightline.objectives.online.importance import importance_weights
from sightline.objectives.online.kl import kl_by_token
from sightline.objectives.online.overlong import overlong_punishment
from sightline.objectives.online.ratio import sequence_log_ratio, sequence_log_ratio_by_token
from sightline.objectives.online.sapo import sapo_loss
from sightline.recipe import load_recipe
from sightline.types import Columns, LogProbs
from tests.drawn import drawn
from tests.objectives.every import build_from
from tests.objectives.made_steps import make_groups, make_log_probs
from tests.objectives.trl_driver import trl_grpo, trl_rloo, trl_scored

LIMIT = 16
TYPES = {option().type: option for option in get_args(OnlineObjectiveConfig)}
NO_KL = {"beta": 0.0}
LOG2 = math.log(2)


def online(type_: str, **options) -> Objective:
    return build(TYPES[type_](**options), max_completion_length=LIMIT)


def answers(num: int = 3, *, dtype: torch.dtype = torch.float64):
    """Groups of two answers, log-probs of policy, old policy and reference, and advantages."""
    groups = make_groups(num, build_from({"type": "dpo"}), segments=False)
    policy = make_log_probs(groups, seed=1, dtype=dtype)
    near = policy.logp.detach() + 0.3 * make_log_probs(groups, seed=2, dtype=dtype).logp.detach() + 0.2
    reference = replace(
        policy, logp=policy.logp.detach() + 0.2 * make_log_probs(groups, seed=3, dtype=dtype).logp.detach()
    )
    advantage = torch.linspace(-1.5, 1.2, 2 * num, dtype=dtype)[
        torch.randperm(2 * num, generator=torch.Generator().manual_seed(0))
    ]
    return groups, policy, near, reference, advantage


def loss_of(objective: Objective, groups, policy: LogProbs, reference: LogProbs | None, **columns) -> torch.Tensor:
    ((name, loss),) = objective(policy, reference, Columns(**columns)).items()
    return loss.value / objective.counts(groups)[name]


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "expected"),
    [
        (1.0, 0.0, -1.0),
        (-1.0, 0.0, 1.0),
        (1.0, LOG2, -1.28),  # clipped above
        (-1.0, LOG2, 2.0),  # not clipped: the gradient lowers a bad answer that became likelier
        (1.0, -LOG2, -0.5),  # not clipped: the gradient raises a good answer that became unlikelier
        (-1.0, -LOG2, 0.8),  # clipped below
    ],
)
def test_the_clipped_surrogate_by_hand(advantage, log_ratio, expected):
    log_ratio = torch.tensor([log_ratio], requires_grad=True)
    loss = clipped_loss(log_ratio, torch.tensor([advantage]), epsilon_low=0.2, epsilon_high=0.28)
    assert loss.item() == pytest.approx(expected)
    loss.sum().backward()
    is_clipped = expected in (-1.28, 0.8)
    assert (log_ratio.grad.item() == 0) == is_clipped


def test_two_sided_clipping_bounds_the_ratio_where_the_advantage_is_negative():
    far = torch.tensor([math.log(50.0)])
    assert clipped_loss(far, -torch.ones(1), epsilon_low=0.2, epsilon_high=0.2).item() == pytest.approx(50.0)
    loss = clipped_loss(far, -torch.ones(1), epsilon_low=0.2, epsilon_high=0.2, max_ratio=3.0)
    assert loss.item() == pytest.approx(3.0)


def test_cispo_keeps_the_gradient_of_a_truncated_token():
    logp = torch.tensor([-1.0], requires_grad=True)
    loss = cispo_loss(logp, torch.tensor([math.log(50.0)]), torch.ones(1), max_ratio=5.0)
    loss.sum().backward()
    assert (loss.item(), logp.grad.item()) == (5.0, -5.0)


def test_sapo_has_the_surrogates_gradient_where_the_policies_agree():
    log_ratio = torch.zeros(2, requires_grad=True)
    sapo_loss(log_ratio, torch.tensor([1.0, -2.0])).sum().backward()
    assert log_ratio.grad.tolist() == pytest.approx([-1.0, 2.0])


def test_kl_estimates_by_hand_and_0_at_the_reference():
    logp, ref = torch.tensor([-1.0]), torch.tensor([-1.0 - LOG2])
    values = {estimator: kl_by_token(logp, ref, estimator=estimator).item() for estimator in ("k1", "k2", "k3")}
    assert values == pytest.approx({"k1": LOG2, "k2": LOG2**2 / 2, "k3": LOG2 - 0.5})
    assert all(kl_by_token(logp, logp, estimator=e).item() == 0 for e in ("k1", "k2", "k3"))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimates_are_unbiased(estimator):
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    exact = (policy * (policy / reference).log()).sum()
    estimate = (policy * kl_by_token(policy.log(), reference.log(), estimator=estimator)).sum()
    assert estimate.item() == pytest.approx(exact.item(), abs=1e-6)


def test_gspo_token_has_gspos_value_and_for_equal_advantages_its_gradient():
    groups, policy, old, _, advantage = answers()
    assert torch.equal(sequence_log_ratio(policy, old), sequence_log_ratio_by_token(policy, old))
    gradients = []
    for name in ("gspo", "gspo_token"):
        loss = loss_of(
            online(name, epsilon=5.0, epsilon_high=5.0), groups, policy, None, advantage=advantage, old_logp=old
        )
        gradients.append(torch.autograd.grad(loss, policy.logp)[0])
    assert torch.allclose(*gradients, atol=1e-12)


def test_answers_used_once_make_gspo_grpo():
    groups, policy, _, _, advantage = answers()
    gradients = []
    for name in ("grpo", "gspo"):
        loss = loss_of(online(name), groups, policy, None, advantage=advantage)
        gradients.append(torch.autograd.grad(loss, policy.logp)[0])
    assert torch.allclose(*gradients, atol=1e-12)


def test_reuse_makes_gspo_and_grpo_differ():
    groups, policy, old, _, advantage = answers()
    first, second = (
        loss_of(online(name), groups, policy, None, advantage=advantage, old_logp=old) for name in ("grpo", "gspo")
    )
    assert abs(first.item() - second.item()) > 1e-3


@pytest.mark.parametrize("name", [name for name in TYPES if name != "distill"])  # it has no advantages
def test_descent_makes_good_answers_likelier_and_bad_ones_less_so(name):
    groups, policy, _, reference, advantage = answers()
    loss = loss_of(online(name), groups, policy, reference, advantage=advantage)
    (gradient,) = torch.autograd.grad(loss, policy.logp)
    assert torch.equal(torch.sign(gradient), -torch.sign(advantage[policy.response]))


@pytest.mark.parametrize("name", TYPES)
def test_any_cut_of_the_step_sums_to_the_same_loss_and_gradient(name):
    groups, policy, old, reference, advantage = answers(4)
    options = {"beta": 0.1} if name not in ("rloo", "reinforce_pp") else {}
    objective = online(name, **options)
    counts = objective.counts(groups)[name]
    whole = objective(policy, reference, Columns(advantage=advantage, old_logp=old))[name].value / counts
    (gradient,) = torch.autograd.grad(whole, policy.logp)
    total = 0.0
    for members in ([0], [1, 2], [3]):
        responses = torch.tensor([r for g in members for r in (2 * g, 2 * g + 1)])
        tokens = torch.isin(policy.response, responses)
        layout = make_log_probs([groups[g] for g in members], seed=0)
        some = replace(layout, logp=policy.logp[tokens])
        columns = Columns(advantage=advantage[responses], old_logp=old[tokens])
        total = total + objective(some, replace(layout, logp=reference.logp[tokens]), columns)[name].value / counts
    assert total.item() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(torch.autograd.grad(total, policy.logp)[0], gradient, atol=1e-14)


TRL_CASES = {
    "grpo": ({"type_": "grpo"}, {"loss_type": "grpo"}),
    "grpo, epsilons": (
        {"type_": "grpo", "epsilon": 0.1, "epsilon_high": 0.3},
        {"epsilon_low": 0.1, "epsilon_high": 0.3},
    ),
    "grpo, two-sided": ({"type_": "grpo", "max_ratio": 1.25}, {"delta": 1.25}),
    "grpo, ratio-corrected KL": (
        {"type_": "grpo", "beta": 0.3, "kl_ratio_corrected": True},
        {"beta": 0.3, "use_bias_correction_kl": True},
    ),
    "grpo, KL": ({"type_": "grpo", "beta": 0.3}, {"beta": 0.3, "use_bias_correction_kl": False}),
    "dr_grpo": ({"type_": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    "dapo": ({"type_": "dapo"}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "bnpo": ({"type_": "bnpo"}, {"loss_type": "bnpo"}),
    "cispo": ({"type_": "cispo", "max_ratio": 1.1}, {"loss_type": "cispo", "epsilon_high": 1.1}),
    "sapo": ({"type_": "sapo"}, {"loss_type": "sapo"}),
    "gspo": (
        {"type_": "gspo", "epsilon": 0.05, "epsilon_high": 0.1},
        {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.1},
    ),
    "gspo, ratio-corrected KL": (
        {"type_": "gspo", "epsilon": 0.05, "beta": 0.3, "kl_ratio_corrected": True, "epsilon_high": None},
        {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.05, "beta": 0.3},
    ),
}


@pytest.mark.parametrize("reused", [False, True], ids=["used once", "reused"])
@pytest.mark.parametrize("corrected", [False, True], ids=["", "importance weights"])
@pytest.mark.parametrize(("ours", "theirs"), TRL_CASES.values(), ids=TRL_CASES)
def test_losses_gradients_and_metrics_agree_with_trl(ours, theirs, corrected, reused):
    groups, policy, old, reference, advantage = answers()
    weight = torch.linspace(0.5, 1.5, len(old), dtype=torch.float64) if corrected else None
    columns = {"advantage": advantage} | ({"old_logp": old} if reused else {})
    columns |= {"importance_weight": weight} if corrected else {}
    objective = online(**ours)
    mine = loss_of(objective, groups, policy, reference, **columns)
    (my_gradient,) = torch.autograd.grad(mine, policy.logp)
    trl, trl_metrics = trl_grpo(
        policy,
        advantage,
        old_logp=old if reused else None,
        ref_logp=reference.logp,
        importance_weight=weight,
        max_completion_length=LIMIT,
        **theirs,
    )
    (trl_gradient,) = torch.autograd.grad(trl, policy.logp)
    tolerance = 1e-7 if ours["type_"] == "sapo" else 1e-12  # TRL rounds SAPO's 1.05 to float32
    assert mine.item() == pytest.approx(trl.item(), abs=tolerance)
    assert torch.allclose(my_gradient, trl_gradient, atol=tolerance)
    ((_, loss),) = objective(policy, reference, Columns(**columns)).items()
    metrics = {name: float(total / count) for name, (total, count) in loss.metrics.items()}
    assert metrics == pytest.approx({name: trl_metrics[name] for name in metrics}, abs=1e-6)


def test_rloo_agrees_with_trl():
    groups, policy, old, reference, advantage = answers()
    mine = loss_of(online("rloo"), groups, policy, reference, advantage=advantage, old_logp=old)
    theirs = trl_rloo(policy, old, advantage)
    assert mine.item() == pytest.approx(theirs.item(), abs=1e-12)
    gradients = [torch.autograd.grad(loss, policy.logp)[0] for loss in (mine, theirs)]
    assert torch.allclose(*gradients, atol=1e-12)


REWARDS = torch.tensor([1.0, 0.0, 0.5, 1.0, 1.0, 1.0, math.nan, 0.2, 0.7, math.nan, math.nan, 0.3, 2.0, 2.0, 2.0])
GROUP = torch.arange(5).repeat_interleave(3)
LENGTHS = [2] * 15


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_agree_with_trl_also_where_no_reward_applies(scale):
    theirs = trl_scored(GRPOTrainer, LENGTHS, REWARDS[:, None], 3, scale_rewards=scale)["advantages"]
    assert torch.allclose(group_advantages(REWARDS, GROUP, scale=scale), theirs, atol=1e-6)


def test_leave_one_out_advantages_agree_with_trl():
    theirs = trl_scored(RLOOTrainer, LENGTHS, REWARDS[:, None], 3)["advantages"]
    assert torch.allclose(leave_one_out_advantages(REWARDS, GROUP), theirs, atol=1e-6)


def test_advantages_by_hand():
    reward, group = torch.tensor([1.0, 0.0, 3.0, 3.0]), torch.tensor([0, 0, 1, 1])
    half = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert group_advantages(reward, group, scale="group").tolist() == pytest.approx([half, -half, 0.0, 0.0])
    assert group_advantages(reward, group, scale="none").tolist() == [0.5, -0.5, 0.0, 0.0]
    assert leave_one_out_advantages(reward, group).tolist() == [1.0, -1.0, 0.0, 0.0]
    assert batch_advantages(torch.tensor([1.0, 3.0, math.nan])).tolist() == pytest.approx(
        [-1 / (math.sqrt(2) + 1e-4), 1 / (math.sqrt(2) + 1e-4), 0.0]
    )
    assert without_variance(reward, group).tolist() == [False, True]


def test_an_objective_makes_its_own_advantages():
    length = torch.tensor([2.0, 16.0])
    reward, group = torch.tensor([1.0, 1.0]), torch.tensor([0, 0])
    assert online("grpo").advantages(reward, group, length).tolist() == [0.0, 0.0]
    punished = online("dapo", overlong_buffer=4, scale_rewards="none").advantages(reward, group, length)
    assert punished.tolist() == [0.5, -0.5]
    rloo = online("rloo", beta=0.5)
    assert rloo.kl_in_reward == 0.5 and rloo.needs_reference
    log_ratio = torch.tensor([2.0, 0.0])
    assert rloo.advantages(reward, group, length, log_ratio_to_reference=log_ratio).tolist() == [-1.0, 1.0]
    assert not online("rloo", beta=0.0).needs_reference
    assert not online("grpo").needs_reference and online("grpo", beta=0.04).needs_reference


MODES = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@pytest.mark.parametrize("mode", MODES)
def test_importance_weights_agree_with_trl_also_where_the_sampler_reports_nothing(mode):
    groups, policy, sampled, _, _ = answers()
    sampled = sampled.clone()
    sampled[1], sampled[-1] = math.nan, policy.logp[-1].item() - 2.0
    lengths = [len(r) for g in groups for r in g.responses]
    theirs = trl_scored(
        GRPOTrainer,
        lengths,
        torch.zeros(len(lengths), 1),
        2,
        scale_rewards="group",
        sampled=[[None if math.isnan(x) else x for x in piece.tolist()] for piece in sampled.split(lengths)],
        old=[piece.tolist() for piece in policy.logp.detach().split(lengths)],
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_max=1.2,
    )["importance_sampling_ratio"]
    mine = importance_weights(policy, sampled, mode=mode, cap=1.2)
    expected = torch.cat([row.expand(max(lengths))[:n] for row, n in zip(theirs, lengths, strict=True)])
    assert torch.allclose(mine, expected.double(), atol=1e-6)
    assert not mine.requires_grad and (mine <= 1.2).all()


def test_the_overlong_punishment_agrees_with_trl():
    lengths = [1, 79, 80, 81, 90, 99, 100, 130]
    theirs = get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)([[1] * n for n in lengths])
    ours = overlong_punishment(torch.tensor(lengths, dtype=torch.float64), limit=100, buffer=20)
    assert ours.tolist() == pytest.approx(theirs)


nats = st.one_of(st.sampled_from([0.0, -1e4, 1e4]), st.floats(-1e4, 0, width=32), st.floats(-20, 0, width=32))


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
@settings(max_examples=drawn(25), deadline=None)
def test_losses_are_finite_for_any_log_probs(name, data):
    groups, made, *_ = answers(1, dtype=torch.float32)
    num = len(made.logp)

    def drawn() -> torch.Tensor:
        return torch.tensor(data.draw(st.lists(nats, min_size=num, max_size=num)), dtype=torch.float32)

    policy = replace(made, logp=drawn().requires_grad_())
    options = (
        {}
        if name in ("rloo", "reinforce_pp", "distill")
        else {"beta": 0.1, "kl_ratio_corrected": data.draw(st.booleans())}
    )
    columns = {"advantage": torch.tensor([1.0, -1.0]), "old_logp": drawn()}
    loss = loss_of(online(name, **options), groups, policy, replace(made, logp=drawn()), **columns)
    (gradient,) = torch.autograd.grad(loss, policy.logp)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_kl_options_without_a_kl_term_are_refused():
    with pytest.raises(RecipeError, match="beta: 0"):
        load_recipe(None, ["--model", "m", "--data", "d", "--objective.type", "grpo", "--objective.kl_ratio_corrected"])
