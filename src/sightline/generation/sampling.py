"""How completions are drawn (`SamplingSettings`) and what comes of it (`Sampled`)."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from sightline.config.online import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How answers are drawn. top_p 1, top_k 0 and min_p 0 leave the distribution as it is; temperature 0 is greedy.

    max_new_tokens: longest answer. stop: texts behind which an answer ends.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: SamplingConfig) -> "SamplingSettings":
        """The settings of a recipe."""
        return cls(
            max_new_tokens=config.max_completion_length,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            min_p=config.min_p,
            stop=tuple(config.stop),
        )


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One answer.

    ids: its tokens, the end token included where there is one. finished: it ended by itself, not at the limit.
    log_probs: of its tokens by the sampler's own weights and arithmetic, at the sampling temperature over the whole
    vocabulary (before top-p, top-k and min-p), in nats; None from a sampler that does not give them.
    """

    ids: Int[Tensor, " tokens"]
    finished: bool
    log_probs: Float[Tensor, " tokens"] | None = None
