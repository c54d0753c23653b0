"""The online recipes of the embedded model, run and judged by exact descriptions of fresh scenes."""

from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from sightline.config import DataConfig, ModelConfig
from sightline.data.render.render import Renderer
from sightline.generation.sampling import SamplingSettings
from sightline.models.load import load_model, load_processor
from sightline.recipe import load_recipe
from sightline.recipes import path
from sightline.rewards.accuracy import Accuracy
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.sampler import TransformersSampler
from sightline.scenes.options import SceneOptions
from sightline.scenes.rows import SceneRows
from sightline.training.run import train
from sightline.types import Prompt

FRESH = 97_000
"""Seed of the scenes that are judged; settings were chosen on seeds 0 and 95,000."""

NUM_SCENES = 500
LEAST_RISE = 35.0
"""Points of exact descriptions, in percent."""


def exact_rate(model: nn.Module, processor: Any) -> float:
    """Percent of greedy descriptions of the fresh scenes that are true to the word, as the reward has it."""
    rows = SceneRows("prompts", SceneOptions(images=NUM_SCENES, questions=["description"]), seed=FRESH)
    dataset = PromptDataset(rows, DataConfig(source="scenes"), Renderer(processor))
    prompts = [prompt for prompt in (dataset[i] for i in range(len(dataset))) if isinstance(prompt, Prompt)]
    greedy = SamplingSettings(max_new_tokens=40, temperature=0.0)
    answers = TransformersSampler(model, processor).sample(prompts, 1, greedy, seed=0)
    texts = [processor.tokenizer.decode(answer.ids, skip_special_tokens=True) for (answer,) in answers]
    judged = Accuracy(method="exact", tolerance=None, seconds=5.0)(
        texts, solution=[prompt.row["solution"] for prompt in prompts]
    )
    return 100 * sum(value or 0.0 for value in judged) / len(judged)


@cache
def base_rate() -> float:
    """Of the embedded model as it is."""
    config = ModelConfig(name="embedded")
    return exact_rate(load_model(config), load_processor(config))


def rate_after(recipe: str, folder: Path, seed: int, **changes: int) -> float:
    """Of the model that a recipe trains. seed: of training and of its scenes."""
    flags = ["--output-dir", str(folder), "--seed", str(seed), "--data.seed", str(seed)]
    flags += [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    result = train(load_recipe(path(recipe), flags), console=Console(quiet=True))
    assert result.model is not None
    return exact_rate(result.model, result.processor)
