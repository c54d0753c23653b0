"""No objective depends on padding, on the order of pairs, or on how a step is cut; and every one can be descended."""

from dataclasses import replace

import pytest
import torch

from sightline.types import Group, LogProbs
from tests.objectives.every import EVERY, build_from
from tests.objectives.made_steps import columns_of, make_groups, make_log_probs, total_loss

every = pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)


def reordered(groups: list[Group], log_probs: LogProbs, order: list[int]) -> tuple[list[Group], LogProbs]:
    """The same step with its groups in another order."""
    pieces = [torch.nonzero(log_probs.response_group[log_probs.response] == g)[:, 0] for g in order]
    tokens = torch.cat(pieces)
    moved = [groups[g] for g in order]
    layout = make_log_probs(moved, seed=0)
    names = ("logp", "weight", "entropy", "top1", "mean_logit", "log_sum_sq")
    per_token = {name: getattr(log_probs, name)[tokens] for name in names}
    return moved, replace(layout, **per_token)


def piece(groups: list[Group], log_probs: LogProbs, chosen: list[int]) -> tuple[list[Group], LogProbs]:
    """Some groups of a step, as a micro-batch sees them."""
    return reordered(groups, log_probs, chosen)


@every
def test_the_order_of_groups_does_not_matter(options):
    objective = build_from(options)
    groups = make_groups(6, objective)
    policy, reference = make_log_probs(groups, seed=1), make_log_probs(groups, seed=2)
    order = [3, 0, 5, 1, 4, 2]
    moved, moved_policy = reordered(groups, policy, order)
    _, moved_reference = reordered(groups, reference, order)
    expected = total_loss(objective, groups, policy, reference)
    assert total_loss(objective, moved, moved_policy, moved_reference).item() == pytest.approx(
        expected.item(), rel=1e-12
    )


@every
def test_tokens_that_are_not_targets_do_not_matter(options):
    objective = build_from(options)
    groups = make_groups(4, objective)
    policy, reference = make_log_probs(groups, seed=1), make_log_probs(groups, seed=2)
    loss = total_loss(objective, groups, policy, reference)
    (gradient,) = torch.autograd.grad(loss, policy.logp)

    def padded(log_probs: LogProbs) -> LogProbs:
        """A token of weight 0 after every response, with a log-prob that would show."""
        num = log_probs.num_responses
        order = torch.argsort(torch.cat([log_probs.response, torch.arange(num)]), stable=True)
        noise = {"logp": -1e4, "weight": 0.0, "entropy": 99.0, "top1": True, "mean_logit": 99.0, "log_sum_sq": -9.0}
        fields = {
            name: torch.cat([getattr(log_probs, name).detach(), getattr(log_probs, name).new_full((num,), value)])[
                order
            ]
            for name, value in noise.items()
        }
        return replace(log_probs, **fields, response=torch.cat([log_probs.response, torch.arange(num)])[order])

    padded_policy = padded(policy)
    padded_policy.logp.requires_grad_()
    padded_loss = total_loss(objective, groups, padded_policy, padded(reference))
    assert padded_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    (padded_gradient,) = torch.autograd.grad(padded_loss, padded_policy.logp)
    assert torch.allclose(padded_gradient[padded_policy.weight > 0], gradient, atol=1e-12)
    assert (padded_gradient[padded_policy.weight == 0] == 0).all()
    clean = objective(policy, reference, columns_of(groups))
    dirty = objective(padded_policy, padded(reference), columns_of(groups))
    for name, part in clean.items():
        for metric, (total, count) in part.metrics.items():
            padded_total, padded_count = dirty[name].metrics[metric]
            assert padded_total.item() == pytest.approx(total.item(), abs=1e-9), metric
            assert padded_count.item() == count.item(), metric


@pytest.mark.parametrize("name", [name for name in EVERY if not build_from(EVERY[name]).full_batch])
def test_any_cut_of_the_step_sums_to_the_same_loss_and_gradient(name):
    """Objectives over batch statistics see the whole step at once by contract."""
    objective = build_from(EVERY[name])
    groups = make_groups(5, objective)
    policy, reference = make_log_probs(groups, seed=1), make_log_probs(groups, seed=2)
    counts = objective.counts(groups)
    whole = total_loss(objective, groups, policy, reference)
    (gradient,) = torch.autograd.grad(whole, policy.logp)
    pieces = []
    for members in ([0, 1], [2], [3, 4]):
        some, some_policy = piece(groups, policy, members)
        _, some_reference = piece(groups, reference, members)
        pieces.append(total_loss(objective, some, some_policy, some_reference, counts=counts))
    assert sum(pieces).item() == pytest.approx(whole.item(), rel=1e-12)
    (cut_gradient,) = torch.autograd.grad(sum(pieces), policy.logp)
    assert torch.allclose(cut_gradient, gradient, atol=1e-14)
    assert sum(objective.counts(groups[:2])[name] + objective.counts(groups[2:])[name] for name in counts) == sum(
        counts.values()
    )


@every
def test_ten_steps_down_the_gradient_lower_the_loss(options):
    """A policy that is a table of logits over 5 tokens, one distribution for each target."""
    objective = build_from(options)
    groups = make_groups(4, objective)
    layout = make_log_probs(groups, seed=0)
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(len(layout.logp), 5, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5, (len(layout.logp), 1), generator=generator)
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.02)

    def log_probs(table: torch.Tensor) -> LogProbs:
        distribution = table.log_softmax(-1)
        log_sum_sq = (2 * distribution).logsumexp(-1).detach()
        return replace(layout, logp=distribution.gather(1, target)[:, 0], log_sum_sq=log_sum_sq)

    reference = log_probs(start)
    losses = []
    for _ in range(11):
        policy = log_probs(logits)
        loss = total_loss(objective, groups, policy, reference)
        # DFT descends −π, whose gradient is that of −sg(π)·log π; the loss it reports rises until π = 1/e
        losses.append(-policy.logp.exp().mean().item() if options == {"type": "dft"} else loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1e-4
