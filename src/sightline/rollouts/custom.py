"""A sampler of the user's own: `sampler: {type: my.py:MySampler, …}`, or an object given to `train` in Python.

Everything it returns is checked, so that a mistake in it is told by name and not learned from.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sightline.config.custom import CustomSamplerConfig
from sightline.errors import SamplerError
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.rollouts.sampler import Sampler
from sightline.types import Prompt
from sightline.user_code import check_options, find_user_object


def build_custom_sampler(config: CustomSamplerConfig, model: nn.Module, processor: Any) -> "CheckedSampler":
    """Make the class that the recipe names: `Class(model, processor, **options)`. Raises `RecipeError`, `SamplerError`.

    model: the policy as it is before the first step; it changes while it is trained, and `sync` says when.
    """
    made = find_user_object(config.function, what="Sampler")
    if not callable(made):
        raise SamplerError(f"Sampler `{config.function}` is a {type(made).__name__}, not a class or function.")
    check_options(made, config.function, config.options, what="Sampler")
    needs_log_probs = config.importance_sampling != "none"
    return CheckedSampler(made(model, processor, **config.options), config.function, needs_log_probs=needs_log_probs)


class CheckedSampler:
    """A user's sampler with checked completions. name: for messages. Raises `SamplerError` for what is no sampler."""

    def __init__(self, sampler: Any, name: str, *, needs_log_probs: bool) -> None:
        if not isinstance(sampler, Sampler):
            missing = [part for part in ("exact", "sample", "sync", "close") if not hasattr(sampler, part)]
            raise SamplerError(
                f"Sampler `{name}` has no {', '.join(f'`{part}`' for part in missing)}. A sampler has `exact` (its "
                "log-probs are the trainer's), `sample(prompts, num_responses, settings, seed)`, `sync(policy)` and "
                "`close()`; docs/extending.md has an example."
            )
        self.sampler, self.name, self.needs_log_probs = sampler, name, needs_log_probs and not sampler.exact
        self.exact: bool = sampler.exact

    def sample(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """As `Sampler.sample`. Raises `SamplerError` for a completion that cannot be trained on."""
        found = self.sampler.sample(prompts, num_responses, settings, seed)
        if len(found) != len(prompts) or any(len(completions) != num_responses for completions in found):
            raise SamplerError(
                f"Sampler `{self.name}` returned {[len(one) for one in found]} completions for {len(prompts)} "
                f"prompts; expected is a list of {num_responses} for each prompt, in the order of the prompts."
            )
        for prompt, completions in zip(prompts, found, strict=True):
            for completion in completions:
                self._check(completion, prompt)
        return found

    def _check(self, completion: Any, prompt: Prompt) -> None:
        where = f"Sampler `{self.name}`, prompt {prompt.id}"
        if not isinstance(completion, Sampled):
            raise SamplerError(f"{where}: a {type(completion).__name__} is no completion; return `Sampled(ids=…, …)`.")
        ids, log_probs = completion.ids, completion.log_probs
        if not isinstance(ids, Tensor) or ids.ndim != 1 or len(ids) == 0 or ids.dtype != torch.long:
            raise SamplerError(f"{where}: `ids` must be a one-dimensional int64 tensor of one or more token ids.")
        if log_probs is None and self.needs_log_probs:
            raise SamplerError(
                f"{where}: `log_probs` is missing, without which `sampler.importance_sampling` cannot correct for the "
                "sampler being not quite the policy. Return the tokens' log-probs, or set it to none."
            )
        if log_probs is not None and (log_probs.shape != ids.shape or not bool(torch.isfinite(log_probs).all())):
            raise SamplerError(f"{where}: `log_probs` must be finite, one for each token: shape {list(ids.shape)}.")

    def sync(self, policy: nn.Module) -> None:
        """As the sampler's own."""
        self.sampler.sync(policy)

    def close(self) -> None:
        """As the sampler's own."""
        self.sampler.close()
