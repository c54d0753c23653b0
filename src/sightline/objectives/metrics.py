"""What a run logs beside its loss, by the names that TRL users know. Each is (sum, count), so that any cut adds up."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.objectives.pairs import PairScores, of_chosen
from sightline.types import LogProbs

Metrics = dict[str, tuple[Tensor, Tensor]]


def averaged(values: Tensor, where: Bool[Tensor, "..."] | None = None) -> tuple[Tensor, Tensor]:
    """(sum, count) of some values, or of those `where` a mask of the same shape says; nothing waits for the device."""
    values = values.detach()
    if where is None:
        return values.sum(), torch.tensor(values.numel())
    return values.masked_fill(~where, 0).sum(), where.sum()


def reward_metrics(chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"]) -> Metrics:
    """Implicit rewards of chosen and rejected, and how often the chosen one's is higher.

    A tie counts one half: a policy that still is its reference reads 0.5, chance. (TRL counts a tie as wrong and so
    reads 0 before the first step.)
    """
    accuracy = (chosen > rejected).to(chosen.dtype) + 0.5 * (chosen == rejected).to(chosen.dtype)
    return {
        "rewards/chosen": averaged(chosen),
        "rewards/rejected": averaged(rejected),
        "rewards/accuracies": averaged(accuracy),
        "rewards/margins": averaged(chosen - rejected),
    }


def pair_metrics(policy: LogProbs, scores: PairScores) -> Metrics:
    """Log-probs of chosen and rejected in nats a response, and mean logits a token where the forward gave them."""
    metrics = {"logps/chosen": averaged(scores.chosen), "logps/rejected": averaged(scores.rejected)}
    if policy.mean_logit is not None:
        target, chosen = policy.weight > 0, of_chosen(policy)
        metrics["logits/chosen"] = averaged(policy.mean_logit, target & chosen)
        metrics["logits/rejected"] = averaged(policy.mean_logit, target & ~chosen)
    return metrics


def token_metrics(policy: LogProbs, demonstrated: Bool[Tensor, " targets"]) -> Metrics:
    """Entropy of all target tokens in nats, and how often a demonstrated one was the most likely token."""
    target = policy.weight > 0
    metrics: Metrics = {}
    if policy.entropy is not None:
        metrics["entropy"] = averaged(policy.entropy, target)
    if policy.top1 is not None:
        metrics["mean_token_accuracy"] = averaged(policy.top1.to(policy.logp.dtype), target & demonstrated)
    return metrics
