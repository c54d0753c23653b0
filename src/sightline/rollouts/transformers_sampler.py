"""The policy itself as sampler: always in step with training, slower than an inference engine."""

from collections.abc import Sequence

from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.generation.decode import decode, shares_prompt
from sightline.generation.generate import generate, token_settings
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.models.families.find import family_of
from sightline.models.unwrap import in_eval_mode
from sightline.rollouts.sampler import seeds_of
from sightline.types import Group, Prompt


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
        if not shares_prompt(family_of(self.model)):
            return self._without_sharing(groups, num_responses, settings, seeds[0])
        # the longest first: what does not fit in memory fails at once
        order = sorted(range(len(groups)), key=lambda i: -len(groups[i].prompt_ids))
        at_once = max(1, self.batch_size // num_responses)
        answers: list[list[Sampled]] = [[] for _ in groups]
        family = family_of(self.model)
        with in_eval_mode(self.model):
            for start in range(0, len(order), at_once):
                chosen = order[start : start + at_once]
                together, own = [groups[i] for i in chosen], [seeds[i] for i in chosen]
                found = decode(family, self.processor, together, num_responses, settings, own)
                for i, sampled in zip(chosen, found, strict=True):
                    answers[i] = sampled
        return answers

    def _without_sharing(
        self, groups: Sequence[Group], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """Through transformers' `generate`, which reads the prompt once an answer; without log-probs.

        One seed for all: here answers do depend on which prompts are sampled together.
        """
        family = family_of(self.model)
        found = generate(
            self.model,
            self.processor,
            groups,
            max_new_tokens=settings.max_new_tokens,
            do_sample=settings.temperature > 0,
            temperature=settings.temperature or 1.0,
            top_p=settings.top_p,
            top_k=settings.top_k,
            min_p=settings.min_p,
            stop=settings.stop,
            num_return=num_responses,
            seed=seed,
            batch_size=self.batch_size,
        )
        ends = token_settings(family.model, self.processor, family)["eos_token_id"]

        def finished(ids: Tensor) -> bool:
            text = self.processor.tokenizer.decode(ids)
            behind_text = any(one in text for one in settings.stop)
            return int(ids[-1]) in ends or behind_text

        return [[Sampled(ids=ids, finished=finished(ids)) for ids in answers] for answers in found]
