"""Log importance ratios log π/π_old by token, for the surrogates of `clip`, `cispo` and `sapo`.

    token        s_t = log π(y_t) − log π_old(y_t)                          GRPO
    mean         s = 1/|y| Σ_t [log π(y_t) − log π_old(y_t)]                 GSPO (arXiv:2507.18071)
    mean, token gradient   sg(s) + log π(y_t) − sg(log π(y_t))              GSPO-token
    sum          s = Σ_t [log π(y_t) − log π_old(y_t)]                       RLOO (arXiv:2402.14740)

Ratios of whole completions are given to every token of the completion.
"""

from jaxtyping import Float
from torch import Tensor

from sightline.types import LogProbs


def token_log_ratio(policy: LogProbs, old_logp: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """Each token's own log-ratio. old_logp: log π_old(y_t), nats."""
    return policy.logp - old_logp


def sequence_log_ratio(policy: LogProbs, old_logp: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """GSPO: the mean log-ratio of the completion, at each of its tokens."""
    mean = policy.per_response(policy.logp - old_logp) / policy.lengths.clamp(min=1)
    return mean[policy.response]


def sequence_log_ratio_by_token(policy: LogProbs, old_logp: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """GSPO-token: the completion's mean log-ratio in value, each token's own log-prob in gradient."""
    mean = sequence_log_ratio(policy, old_logp).detach()
    return mean + (policy.logp - policy.logp.detach())


def summed_log_ratio(policy: LogProbs, old_logp: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """log π(y|x)/π_old(y|x) of the whole completion, at each of its tokens."""
    return policy.per_response(policy.logp - old_logp)[policy.response]
