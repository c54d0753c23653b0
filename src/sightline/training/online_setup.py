"""From a recipe to an online trainer: rewards, sampler, and where answers are kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from sightline.config import Recipe
from sightline.config.online import SamplingConfig, TransformersSamplerConfig, VLLMSamplerConfig
from sightline.errors import RecipeError
from sightline.rewards.find import build_panel
from sightline.rewards.panel import Panel
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.sampler import Sampler
from sightline.rollouts.transformers_sampler import TransformersSampler
from sightline.training.experience import Asker
from sightline.training.online import OnlineTrainer


def sampling_of(recipe: Recipe) -> SamplingConfig:
    """The recipe's sampler, or the default."""
    return recipe.sampler or TransformersSamplerConfig()  # pyright: ignore[reportCallIssue]


def panel_of(recipe: Recipe, functions: Sequence[Callable[..., Any]]) -> Panel:
    """The recipe's rewards and those given in Python. Raises `RecipeError` when there are none, or one is not there."""
    if not recipe.rewards and not functions:
        raise RecipeError(
            f"`objective.type: {recipe.objective.type}` needs `rewards` to judge the answers that it samples, for "
            "example `rewards: {accuracy: 1.0}`; docs/online.md lists them."
        )
    return build_panel(recipe.rewards, functions)


def online_trainer(
    recipe: Recipe,
    *,
    panel: Panel,
    model: nn.Module,
    processor: ProcessorMixin,
    train_dataset: Dataset,
    **options: Any,
) -> OnlineTrainer:
    """The trainer of an objective over sampled answers."""
    assert isinstance(train_dataset, PromptDataset)
    sampling = sampling_of(recipe)
    asker = Asker(
        sampler=build_sampler(sampling, recipe, model, processor),
        panel=panel,
        tokenizer=processor.tokenizer,
    )
    return OnlineTrainer(
        asker=asker,
        sampling=sampling,
        prompts=train_dataset,
        folder=Path(recipe.output_dir),
        model=model,
        processor=processor,
        **options,
    )


def build_sampler(config: SamplingConfig, recipe: Recipe, model: nn.Module, processor: ProcessorMixin) -> Sampler:
    """The sampler that a recipe asks for."""
    if isinstance(config, TransformersSamplerConfig):
        return TransformersSampler(model, processor, batch_size=config.batch_size)
    assert isinstance(config, VLLMSamplerConfig)
    raise NotImplementedError
