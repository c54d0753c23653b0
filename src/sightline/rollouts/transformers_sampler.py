"""The policy itself as sampler: always in step with training, slower than an inference engine."""

from collections.abc import Sequence

from torch import nn
from transformers import ProcessorMixin

from sightline.generation.generate import sample
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.rollouts.sampler import seeds_of
from sightline.types import Prompt


class TransformersSampler:
    """Samples from a model in memory (wrapped or bare). batch_size: answers at a time."""

    exact = True

    def __init__(self, model: nn.Module, processor: ProcessorMixin, *, batch_size: int = 256) -> None:
        self.model, self.processor, self.batch_size = model, processor, batch_size

    def sync(self, policy: nn.Module) -> None:
        """Sample from this model from now on; its weights are read where they are."""
        self.model = policy

    def close(self) -> None:
        """Nothing is held."""

    def sample(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """See `Sampler.sample`."""
        groups, seeds = [prompt.group for prompt in prompts], seeds_of(prompts, num_responses, seed)
        return sample(
            self.model, self.processor, groups, num_responses, settings, seeds=seeds, batch_size=self.batch_size
        )
