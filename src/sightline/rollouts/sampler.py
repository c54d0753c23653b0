"""What a sampler is: something that answers prompts several times, with weights that follow the policy's.

`TransformersSampler` is the policy itself: always in step with training, slower than an inference engine.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn
from transformers import ProcessorMixin

from sightline.generation.generate import sample
from sightline.generation.sampling import Sampled, SamplingSettings, seeds_at
from sightline.types import Prompt


def seeds_of(prompts: Sequence[Prompt], num_responses: int, seed: int) -> list[int]:
    """A seed for each prompt's first completion, the next ones for its others.

    It follows from the prompt's place in the run (without one, its place among these): completions depend neither
    on the number of processes nor on which prompts are sampled together.
    """
    places = [i if prompt.place is None else prompt.place for i, prompt in enumerate(prompts)]
    return seeds_at(places, num_responses, seed)


@runtime_checkable
class Sampler(Protocol):
    """Answers prompts.

    exact: its log-probs are the trainer's up to rounding, so that no correction is needed.
    """

    exact: bool

    def sample(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """`num_responses` completions to each prompt, in the order of the prompts.

        The same weights, prompts, settings and seed give the same completions (see `seeds_of`). Image placeholders are
        never sampled.
        """
        ...

    def sync(self, policy: nn.Module) -> None:
        """Take the policy's present weights: called before every round of sampling that follows an update."""
        ...

    def close(self) -> None:
        """Give back what it holds: processes, memory, files."""
        ...


class TransformersSampler:
    """Samples from a model in memory (wrapped or bare). batch_size: completions at a time."""

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
