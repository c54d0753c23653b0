"""Distillation: how far a student's next-token distributions are from a teacher's.

On-policy (GKD, arXiv:2306.13649, λ = 1, and MiniLLM, arXiv:2306.08543): the student writes, and each of its tokens is
scored by the teacher. `reverse_kl_loss` needs the log-probs of the sampled tokens alone; `generalized_jsd_loss` (GKD,
eq. 1) and `top_k_reverse_kl_loss` need distributions, and serve answers that are given, too. Left out: the credit of
later tokens that MiniLLM gives to earlier ones; each token is judged by itself.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.objectives.online.clip import bounded_ratio


def reverse_kl_loss(
    log_ratio: Float[Tensor, " targets"], logp: Float[Tensor, " targets"], teacher_logp: Float[Tensor, " targets"]
) -> Float[Tensor, " targets"]:
    """KL(student ‖ teacher) from one sampled token each, as a loss: [targets], nats.

    log_ratio: log π/π_old of tokens that π_old sampled; its gradient is that of log π. logp, teacher_logp: of the same
    tokens; no gradient passes. The loss is `ρ·sg(log π − log π_teacher)` with ρ = π/π_old: in expectation over tokens
    that π samples, its value is the reverse KL divergence of the next token, and its gradient is that divergence's.
    """
    return (logp - teacher_logp).detach() * bounded_ratio(log_ratio)


def generalized_jsd_loss(
    student: Float[Tensor, "targets vocabulary"], teacher: Float[Tensor, "targets vocabulary"], *, beta: float
) -> Float[Tensor, " targets"]:
    """GKD's generalized Jensen-Shannon divergence of two log-distributions: [targets], nats.

    beta: 0 is the forward KL(teacher ‖ student), 1 the reverse KL(student ‖ teacher), between them β·KL(teacher ‖ m) +
    (1 − β)·KL(student ‖ m) with m = β·teacher + (1 − β)·student. Raises ValueError for another beta.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta} is no weight of a mixture; give a number from 0 to 1.")
    if beta == 0:
        return _kl(teacher, student)
    if beta == 1:
        return _kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def top_k_reverse_kl_loss(
    student: Float[Tensor, "targets k"], teacher: Float[Tensor, "targets k"]
) -> Float[Tensor, " targets"]:
    """KL(student ‖ teacher) over the teacher's k most likely tokens and all others as one more: [targets], nats.

    student, teacher: log-probs of those k tokens, by the whole vocabulary. A lower bound of the divergence, equal to it
    where k is the whole vocabulary.
    """
    return _kl(student, teacher) + _rest_kl(student, teacher)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.exp() * (p - q)).sum(-1)


def _rest_kl(p: Tensor, q: Tensor) -> Tensor:
    """What all other tokens together add; nothing where k tokens have all the probability."""
    rest_p, rest_q = (-torch.expm1(one.logsumexp(-1).clamp(max=-1e-7)) for one in (p, q))
    return rest_p * (rest_p.log() - rest_q.log())
