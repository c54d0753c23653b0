"""f-divergences for DPO-like losses (f-DPO, arXiv:2309.16240, table 1): rewards β·f'(π/π_ref), not β·log(π/π_ref).

A divergence here is a function of the log-ratio u = log π − log π_ref that returns f'(eᵘ), a constant dropped where
only differences of rewards are used. Where f' grows like an exponential its argument is held below `EXPONENT_LIMIT`:
beyond it the gradient of that response is zero, and neither loss nor gradient overflows float32, even squared.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

EXPONENT_LIMIT = 40.0
"""e⁴⁰ ≈ 2·10¹⁷; its square still fits in float32."""

Divergence = Callable[[Float[Tensor, " pairs"]], Float[Tensor, " pairs"]]


def reverse_kl(log_ratio: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """f'(t) = log t: DPO as published."""
    return log_ratio


def forward_kl(log_ratio: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """f'(t) = 1 − 1/t, shifted to be 0 at t = 1."""
    return 1 - torch.exp((-log_ratio).clamp(max=EXPONENT_LIMIT))


def js(log_ratio: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """Jensen–Shannon: f'(t) = log(2t / (1 + t))."""
    return math.log(2) + logsigmoid(log_ratio)


def alpha(log_ratio: Float[Tensor, " pairs"], *, coefficient: float) -> Float[Tensor, " pairs"]:
    """α-divergence: f'(t) = (t^(α−1) − 1) / (α − 1); α → 1 is `reverse_kl`, α = 0 `forward_kl`."""
    if coefficient == 1.0:
        return log_ratio
    power = coefficient - 1.0
    return torch.expm1((power * log_ratio).clamp(max=EXPONENT_LIMIT)) / power


def build_divergence(name: Literal["reverse_kl", "forward_kl", "js", "alpha"], coefficient: float) -> Divergence:
    """The divergence of a recipe; `coefficient` is α of `alpha`."""
    match name:
        case "reverse_kl":
            return reverse_kl
        case "forward_kl":
            return forward_kl
        case "js":
            return js
        case "alpha":
            return partial(alpha, coefficient=coefficient)
