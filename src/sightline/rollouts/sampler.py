"""What a sampler is: something that answers prompts several times, with weights that follow the policy's."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from sightline.generation.sampling import Sampled, SamplingSettings, seeds_at
from sightline.types import Prompt


def seeds_of(prompts: Sequence[Prompt], num_responses: int, seed: int) -> list[int]:
    """A seed for each prompt's first answer, the next ones for its others.

    It follows from the prompt's place in the run (without one, its place among these), so that answers depend neither
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
        """`num_responses` answers to each prompt, in the order of the prompts.

        The same weights, prompts, settings and seed give the same answers (see `seeds_of`). Picture placeholders are
        never sampled.
        """
        ...

    def sync(self, policy: nn.Module) -> None:
        """Take the policy's present weights: called before every round of sampling that follows an update."""
        ...

    def close(self) -> None:
        """Give back what it holds: processes, memory, files."""
        ...
