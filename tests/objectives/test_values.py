"""Every loss at values worked out by hand, at its limit where the policy is the reference, and the way it pulls."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from sightline.objectives import divergence
from sightline.objectives.aot import aot_loss, aot_unpaired_loss
from sightline.objectives.apo import apo_down_loss, apo_zero_loss
from sightline.objectives.bco import bco_loss, bco_pair_loss
from sightline.objectives.cpo import cpo_loss
from sightline.objectives.dft import dft_loss
from sightline.objectives.discopop import discopop_loss
from sightline.objectives.dpo import dpo_loss
from sightline.objectives.dpop import dpop_loss
from sightline.objectives.exo import exo_pair_loss
from sightline.objectives.hinge import hinge_loss
from sightline.objectives.ipo import ipo_loss
from sightline.objectives.kto import kl_estimate, kto_loss
from sightline.objectives.mdpo import anchor_loss, image_conditional_loss
from sightline.objectives.nca import nca_pair_loss
from sightline.objectives.orpo import orpo_loss
from sightline.objectives.robust import robust_loss
from sightline.objectives.rpo import rpo_term
from sightline.objectives.sft import sft_loss
from sightline.objectives.sigmoid_norm import sigmoid_norm_loss
from sightline.objectives.simpo import simpo_loss
from sightline.objectives.sppo import sppo_hard_loss

LOG2 = math.log(2)
ONE, TWO, FOUR = (torch.tensor([n], dtype=torch.float64) for n in (1.0, 2.0, 4.0))


def with_lengths(loss):
    """Chosen of 2 tokens, rejected of 4."""
    return lambda c, r, rc, rr, **options: loss(c, r, rc, rr, TWO.expand_as(c), FOUR.expand_as(c), **options)


REFERENCED = {
    "dpo": partial(dpo_loss, beta=0.5),
    "cdpo": partial(dpo_loss, beta=0.5, label_smoothing=0.1),
    "robust": partial(robust_loss, beta=0.5, label_smoothing=0.1),
    "hinge": partial(hinge_loss, beta=0.5),
    "ipo": partial(with_lengths(ipo_loss), beta=0.5),
    "exo_pair": partial(exo_pair_loss, beta=0.5, label_smoothing=1e-3),
    "nca_pair": partial(nca_pair_loss, beta=0.5),
    "bco_pair": partial(bco_pair_loss, beta=0.5),
    "bco_pair, shifted": partial(bco_pair_loss, beta=0.5, shift=torch.tensor(0.25, dtype=torch.float64)),
    "sppo_hard": partial(sppo_hard_loss, beta=0.5),
    "aot": partial(aot_loss, beta=0.5),
    "aot_unpaired": partial(aot_unpaired_loss, beta=0.5),
    "apo_zero": partial(apo_zero_loss, beta=0.5),
    "apo_down": partial(apo_down_loss, beta=0.5),
    "discopop": partial(discopop_loss, beta=0.5, tau=0.5),
    "sigmoid_norm": partial(with_lengths(sigmoid_norm_loss), beta=0.5),
    "dpop": partial(dpop_loss, beta=0.5, penalty=50.0),
}

# chosen −1, rejected −3, reference −2 and −2: log-ratios +1 and −1, Δ = 2, β = 0.5: margin 1, rewards ±0.5
SOFTPLUS_MINUS_1 = 0.3132616875  # log(1 + e⁻¹)
SOFTPLUS_1 = 1.3132616875  # log(1 + e)
SOFTPLUS_MINUS_HALF = 0.4740769842  # log(1 + e^−½)
SOFTPLUS_HALF = 0.9740769842
SIGMOID_1, SIGMOID_2 = 0.7310585786, 0.8807970780
SIGMOID_HALF = 0.6224593312
BY_HAND = {
    "dpo": SOFTPLUS_MINUS_1,
    "cdpo": 0.9 * SOFTPLUS_MINUS_1 + 0.1 * SOFTPLUS_1,
    "robust": (0.9 * SOFTPLUS_MINUS_1 - 0.1 * SOFTPLUS_1) / 0.8,
    "hinge": 0.0,
    "ipo": (0.5 + 0.25 - 1.0) ** 2,  # +1 over 2 tokens, −1 over 4; target 1/(2β) = 1
    "exo_pair": SIGMOID_1 * (-SOFTPLUS_MINUS_1 - math.log(0.999)) + (1 - SIGMOID_1) * (-SOFTPLUS_1 - math.log(0.001)),
    "nca_pair": SOFTPLUS_MINUS_HALF + 0.5 * SOFTPLUS_HALF + 0.5 * SOFTPLUS_MINUS_HALF,
    "bco_pair": 2 * SOFTPLUS_MINUS_HALF,
    "bco_pair, shifted": math.log(1 + math.exp(-0.25)) + math.log(1 + math.exp(-0.75)),
    "sppo_hard": (1 - 1) ** 2 + (-1 + 1) ** 2,
    "aot": SOFTPLUS_MINUS_1,
    "aot_unpaired": SOFTPLUS_MINUS_1,
    "apo_zero": 2 * (1 - SIGMOID_HALF),
    "apo_down": SIGMOID_HALF + 1 - SIGMOID_1,
    "discopop": (1 - SIGMOID_2) * SOFTPLUS_MINUS_1 + SIGMOID_2 * math.exp(-1),
    "sigmoid_norm": math.log(1 + math.exp(-0.375)),  # 0.5 · (1/2 + 1/4)
    "dpop": SOFTPLUS_MINUS_1,
}
AT_REFERENCE = {
    "dpo": LOG2,
    "cdpo": LOG2,
    "robust": LOG2,
    "hinge": 1.0,
    "ipo": 1.0,
    "exo_pair": -LOG2 - 0.5 * math.log(0.999 * 0.001),
    "nca_pair": 2 * LOG2,
    "bco_pair": 2 * LOG2,
    "bco_pair, shifted": math.log(1 + math.exp(0.25)) + math.log(1 + math.exp(-0.25)),
    "sppo_hard": 2.0,
    "aot": LOG2,
    "aot_unpaired": LOG2,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "discopop": (1 + LOG2) / 2,
    "sigmoid_norm": LOG2,
    "dpop": LOG2,
}


@pytest.mark.parametrize("name", REFERENCED)
def test_a_loss_is_what_its_equation_gives_by_hand(name):
    loss = REFERENCED[name](-ONE, -3 * ONE, -TWO, -TWO)
    assert loss.item() == pytest.approx(BY_HAND[name], abs=1e-9)


@pytest.mark.parametrize("name", REFERENCED)
def test_a_policy_that_is_its_reference_gives_the_known_limit(name):
    loss = REFERENCED[name](-ONE, -3 * ONE, -ONE, -3 * ONE)
    assert loss.item() == pytest.approx(AT_REFERENCE[name], abs=1e-9)


@pytest.mark.parametrize("name", REFERENCED)
def test_descent_widens_the_margin_of_chosen_over_rejected(name):
    chosen, rejected = (-ONE).requires_grad_(), (-3 * ONE).requires_grad_()
    REFERENCED[name](chosen, rejected, -ONE, -3 * ONE).sum().backward()
    assert chosen.grad.item() < rejected.grad.item()
    # at the reference apo_down lets the chosen one stand and nothing pulls a chosen response down
    assert chosen.grad.item() <= 0 <= rejected.grad.item()


def test_dpop_punishes_a_chosen_response_that_lost_likelihood():
    loss = dpop_loss(-TWO, -FOUR, -ONE, -ONE, beta=0.5, penalty=3.0)
    # log-ratios −1 and −3, Δ = 2, shortfall 1: σ's argument is 0.5 · (2 − 3·1)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(0.5)))


@pytest.mark.parametrize(("tau", "margin"), [(0.05, -0.119), (0.5, 0.3)])
def test_discopop_with_the_papers_tau_starts_by_pulling_margins_down(tau, margin):
    """Whoever trains with it should know; TRL's is the same function (test_trl)."""
    chosen, rest = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.SGD([chosen], lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        discopop_loss(chosen, rest, rest, rest, beta=1.0, tau=tau).sum().backward()
        if chosen.item() == 0:
            slope = (1 - LOG2) / (4 * tau) - 0.75
            assert chosen.grad.item() == pytest.approx(slope)
        optimizer.step()
    assert chosen.item() == pytest.approx(margin, abs=0.002) if margin < 0 else chosen.item() > margin


def test_aot_compares_sorted_values_not_pairs():
    chosen, rejected = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.0])
    ref_chosen, ref_rejected = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0])
    # margins 3, 0 sorted 0, 3 against 0, 1 sorted 0, 1: 0 and 2
    expected = [LOG2, math.log(1 + math.exp(-2.0))]
    assert aot_loss(chosen, rejected, ref_chosen, ref_rejected, beta=1.0).tolist() == pytest.approx(expected)
    # log-ratios of chosen 3, −1 sorted −1, 3 against 0, 0
    expected = [math.log(1 + math.e), math.log(1 + math.exp(-3.0))]
    assert aot_unpaired_loss(chosen, rejected, ref_chosen, ref_rejected, beta=1.0).tolist() == pytest.approx(expected)


def test_simpo_by_hand():
    # means −0.5 and −0.75, β = 2: margin 0.5 − γ = 0
    loss = simpo_loss(-ONE, -3 * ONE, TWO, FOUR, beta=2.0, gamma=0.5)
    assert loss.item() == pytest.approx(LOG2)


def test_orpo_by_hand():
    # mean log-probs log ½ and log ¼: odds 1 and ⅓, odds ratio 3, −log σ(log 3) = log(4/3)
    loss = orpo_loss(-TWO * LOG2, -FOUR * 2 * LOG2, TWO, FOUR)
    assert loss.item() == pytest.approx(math.log(4 / 3))


def test_cpo_by_hand():
    assert cpo_loss(-ONE, -3 * ONE, beta=0.5).item() == pytest.approx(SOFTPLUS_MINUS_1)


@pytest.mark.parametrize(
    "loss",
    [
        lambda c, r: simpo_loss(c, r, TWO, FOUR, beta=2.0, gamma=1.0),
        lambda c, r: orpo_loss(c, r, TWO, FOUR),
        lambda c, r: cpo_loss(c, r, beta=0.1),
    ],
)
def test_losses_without_reference_raise_chosen_and_lower_rejected(loss):
    chosen, rejected = (-ONE).requires_grad_(), (-3 * ONE).requires_grad_()
    loss(chosen, rejected).sum().backward()
    assert chosen.grad.item() < 0 < rejected.grad.item()


def test_likelihood_losses_by_hand():
    logp = torch.tensor([-1.0, -2.0])
    assert sft_loss(logp).tolist() == [1.0, 2.0]
    assert dft_loss(logp).tolist() == pytest.approx([math.exp(-1), 2 * math.exp(-2)])
    assert rpo_term(-3 * ONE, TWO).item() == 1.5


def test_dft_weighs_the_gradient_by_the_probability_without_differentiating_it():
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    dft_loss(logp).sum().backward()
    assert logp.grad.tolist() == pytest.approx([-math.exp(-1), -math.exp(-2)])


def test_the_image_conditional_loss_is_log_2_when_the_image_does_not_matter():
    loss = partial(image_conditional_loss, beta=0.5)
    assert loss(-ONE, -ONE, -TWO, -TWO).item() == pytest.approx(LOG2)
    assert loss(-ONE, -3 * ONE, -TWO, -TWO).item() == pytest.approx(SOFTPLUS_MINUS_1)


def test_mdpos_terms_are_log_2_at_the_reference_and_pull_towards_the_image_and_the_chosen_answer():
    chosen, corrupted = (-ONE).requires_grad_(), (-3 * ONE).requires_grad_()
    by_image = image_conditional_loss(chosen, corrupted, -ONE, -3 * ONE, beta=0.5)
    anchored = anchor_loss(chosen, -ONE, beta=0.5)
    assert by_image.item() == anchored.item() == pytest.approx(LOG2)
    # −β·σ(0) = −¼ on the chosen answer from each term, +¼ on the same answer without its image
    assert [g.item() for g in torch.autograd.grad(by_image, [chosen, corrupted])] == [-0.25, 0.25]
    assert torch.autograd.grad(anchored, chosen)[0].item() == -0.25


def test_the_anchor_asks_for_a_reward_above_delta():
    assert anchor_loss(-ONE, -TWO, beta=0.5).item() == pytest.approx(SOFTPLUS_MINUS_HALF)
    assert anchor_loss(-ONE, -TWO, beta=0.5, anchor=0.5).item() == pytest.approx(LOG2)


def labelled() -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -2.0]), torch.tensor([True, False])


def test_kto_by_hand():
    logp, ref, desirable = labelled()
    kl = torch.tensor(0.5)
    loss = kto_loss(logp, ref, desirable, kl, beta=2.0, desirable_weight=1.0, undesirable_weight=3.0)
    # β(h − z) = 2 · (1 − 0.5) = 1
    assert loss.tolist() == pytest.approx([1 - SIGMOID_1, 3 * SIGMOID_1])


def test_kto_is_half_its_weight_at_the_reference_and_pulls_by_label():
    logp = torch.tensor([-2.0, -2.0], requires_grad=True)
    loss = kto_loss(logp, torch.tensor([-2.0, -2.0]), torch.tensor([True, False]), torch.tensor(0.0), beta=0.1)
    assert loss.tolist() == [0.5, 0.5]
    loss.sum().backward()
    assert logp.grad[0] < 0 < logp.grad[1]


def test_the_kl_estimate_is_a_mean_without_gradient_and_never_below_0():
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    estimate = kl_estimate(logp, torch.tensor([-2.0, -2.0]))
    assert estimate.item() == 0.5
    assert not estimate.requires_grad
    assert kl_estimate(logp, torch.tensor([0.0, 0.0])).item() == 0.0


def test_bco_by_hand():
    logp, ref, desirable = labelled()
    loss = bco_loss(logp, ref, desirable, beta=0.5, shift=torch.tensor(-0.5), undesirable_weight=2.0)
    assert loss.tolist() == pytest.approx([SOFTPLUS_MINUS_1, 2 * SOFTPLUS_1])


def test_bco_is_log_2_at_the_reference_and_pulls_by_label_also_around_a_shift():
    logp, _, desirable = labelled()
    moving = logp.clone().requires_grad_()
    loss = bco_loss(moving, logp, desirable, beta=0.5, undesirable_weight=2.0)
    assert loss.tolist() == pytest.approx([LOG2, 2 * LOG2])
    loss.sum().backward()
    # ∓β·σ(0), the undesirable one twice
    assert moving.grad.tolist() == [-0.25, 0.5]
    for shift in (-5.0, 5.0):
        moving.grad = None
        bco_loss(moving, logp, desirable, beta=0.5, shift=torch.tensor(shift)).sum().backward()
        assert moving.grad[0] < 0 < moving.grad[1]


@pytest.mark.parametrize(
    ("function", "by_hand"),
    [
        (divergence.reverse_kl, 1.0),
        (divergence.forward_kl, 1 - math.exp(-1)),
        (divergence.js, math.log(2 * math.e / (1 + math.e))),
        (partial(divergence.alpha, coefficient=0.5), (math.exp(-0.5) - 1) / -0.5),
        (partial(divergence.alpha, coefficient=1.0), 1.0),
    ],
)
def test_divergences_are_the_derivative_of_f_and_0_at_the_reference(function, by_hand):
    assert function(ONE).item() == pytest.approx(by_hand)
    assert function(0 * ONE).item() == pytest.approx(0.0, abs=1e-12)


def test_alpha_0_is_forward_kl_and_alpha_near_1_is_reverse_kl():
    log_ratio = torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.allclose(divergence.alpha(log_ratio, coefficient=0.0), divergence.forward_kl(log_ratio))
    assert torch.allclose(divergence.alpha(log_ratio, coefficient=1 - 1e-9), log_ratio)
