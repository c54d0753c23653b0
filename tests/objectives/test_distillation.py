"""Distillation: values by hand, limits, gradients against the whole vocabulary, and TRL's own numbers."""

import math

import pytest
import torch

from sightline.objectives import generalized_jsd_loss, reverse_kl_loss, top_k_reverse_kl_loss


def distributions(rows: int = 5, vocabulary: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    both = torch.randn(2, rows, vocabulary, generator=draw, dtype=torch.float64).log_softmax(-1)
    return both[0], both[1]


def test_values_by_hand():
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    forward = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert generalized_jsd_loss(student, teacher, beta=0.0).item() == pytest.approx(forward)
    assert generalized_jsd_loss(student, teacher, beta=1.0).item() == pytest.approx(reverse)
    m = (0.625, 0.375)
    js = 0.5 * (0.75 * math.log(0.75 / m[0]) + 0.25 * math.log(0.25 / m[1]))
    js += 0.5 * (0.5 * math.log(0.5 / m[0]) + 0.5 * math.log(0.5 / m[1]))
    assert generalized_jsd_loss(student, teacher, beta=0.5).item() == pytest.approx(js)
    assert reverse_kl_loss(torch.zeros(1), torch.tensor([-1.0]), torch.tensor([-3.0])).item() == 2.0


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_divergences_are_trls(beta):
    from trl.experimental.gkd import GKDTrainer

    student, teacher = (one.requires_grad_() for one in distributions())
    ours = generalized_jsd_loss(student, teacher, beta=beta)
    theirs = GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=beta, reduction="none")
    assert torch.allclose(ours, theirs[0].sum(-1))
    # both differentiate through a softmax of their own: log-probs are their own logits
    mine = torch.autograd.grad(generalized_jsd_loss(student.log_softmax(-1), teacher, beta=beta).sum(), student)[0]
    assert torch.allclose(mine, torch.autograd.grad(theirs.sum(), student)[0])


def test_equal_distributions_are_nothing_apart():
    student, _ = distributions()
    for beta in (0.0, 0.3, 1.0):
        assert generalized_jsd_loss(student, student, beta=beta).abs().max() < 1e-12
    assert top_k_reverse_kl_loss(student[:, :3], student[:, :3]).abs().max() < 1e-12


def test_a_sampled_token_has_the_divergence_and_its_gradient_in_expectation():
    logits, teacher = torch.randn(6, dtype=torch.float64, requires_grad=True), distributions(1, 6)[1][0]
    logp = logits.log_softmax(-1)
    exact = (logp.exp() * (logp - teacher)).sum()
    weight = logp.exp().detach()
    sampled = (weight * reverse_kl_loss(logp - logp.detach(), logp, teacher)).sum()
    assert sampled.item() == pytest.approx(exact.item())
    ours, theirs = torch.autograd.grad(sampled, logits, retain_graph=True)[0], torch.autograd.grad(exact, logits)[0]
    assert torch.allclose(ours, theirs)


def test_a_token_that_the_teacher_likes_less_becomes_less_likely():
    logp = torch.tensor([-1.0], requires_grad=True)
    for teacher, sign in ((-5.0, 1), (-0.1, -1)):
        loss = reverse_kl_loss(logp - logp.detach(), logp, torch.tensor([teacher])).sum()
        assert torch.autograd.grad(loss, logp)[0].sign().item() == sign


def test_the_teachers_most_likely_tokens_bound_the_divergence_and_all_of_them_are_it():
    student, teacher = distributions(20, 9)
    order = teacher.argsort(-1, descending=True)
    exact = generalized_jsd_loss(student, teacher, beta=1.0)
    before = torch.zeros(20, dtype=torch.float64)
    for k in range(1, 10):
        chosen = order[:, :k]
        bound = top_k_reverse_kl_loss(student.gather(-1, chosen), teacher.gather(-1, chosen))
        assert (bound >= before - 1e-6).all() and (bound <= exact + 1e-6).all()
        before = bound
    assert torch.allclose(before, exact, atol=1e-5)


def test_a_weight_that_is_none_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        generalized_jsd_loss(*distributions(), beta=1.5)
