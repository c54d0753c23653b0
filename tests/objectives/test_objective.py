"""Objectives as the trainer calls them: parts, counts, metrics."""

import math
from dataclasses import replace

import pytest
import torch

from sightline.config.objective import DPOConfig, SFTConfig
from sightline.config.pair_objectives import DDPOConfig
from sightline.objectives.objective import build
from sightline.types import LogProbs


def logprobs(*responses: list[float], **statistics: list) -> LogProbs:
    """Log-probs of responses given token by token, two responses a group."""
    lengths = [len(r) for r in responses]
    num = len(responses)
    return LogProbs(
        logp=torch.tensor([value for r in responses for value in r], dtype=torch.float64, requires_grad=True),
        weight=torch.ones(sum(lengths), dtype=torch.float64),
        response=torch.repeat_interleave(torch.arange(num), torch.tensor(lengths)),
        response_group=torch.arange(num) // 2,
        num_groups=(num + 1) // 2,
        **{name: torch.tensor(values) for name, values in statistics.items()},
    )


def test_a_policy_that_is_its_reference_has_loss_log_2_and_chance_accuracy():
    policy = logprobs([-1.0, -2.0], [-3.0])
    loss = build(DPOConfig())(policy, policy)["dpo"]
    assert loss.value.item() == pytest.approx(math.log(2))
    total, count = loss.metrics["rewards/accuracies"]
    assert (total.item(), count.item()) == (0.5, 1)


def test_ddpo_by_hand():
    policy, reference = logprobs([-1.0, -2.0], [-3.0, -1.0]), logprobs([-2.0, -2.0], [-1.0, -3.0])
    corrected = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    policy, reference = replace(policy, weight=corrected), replace(reference, weight=corrected)
    # chosen (−1 − 3·2)/4 against −2: +¼; rejected (−3·3 − 1)/4 against (−3·1 − 3)/4: −1; margin 0.8 · 5/4 = 1
    loss = build(DDPOConfig(beta=0.8))(policy, reference)["ddpo"]
    assert loss.value.item() == pytest.approx(math.log(1 + math.exp(-1)))
    # each token's share of its response's weight, times β·σ(−1)
    slope = 0.8 / (1 + math.e)
    (gradient,) = torch.autograd.grad(loss.value, policy.logp)
    assert gradient.tolist() == pytest.approx([-slope / 4, -3 * slope / 4, 3 * slope / 4, slope / 4])


def test_rpo_is_a_part_of_its_own_with_alpha_as_weight():
    policy = logprobs([-1.0, -2.0], [-3.0])
    objective = build(DPOConfig(rpo_alpha=0.2))
    assert objective.weights == {"dpo": 1.0, "rpo": 0.2}
    assert objective(policy, policy)["rpo"].value.item() == pytest.approx(1.5)


def test_sft_sums_over_target_tokens_only():
    policy = logprobs([-1.0, -2.0], [-3.0])
    policy.weight[1] = 0.0
    loss = build(SFTConfig())(policy)["sft"]
    assert loss.value.item() == pytest.approx(4.0)
    assert loss.per == "tokens"
