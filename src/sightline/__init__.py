"""Sightline: preference alignment for vision-language models.

    import sightline as sl
    recipe = sl.load_recipe("recipe.yaml", ["--max-steps", "100"])
    result = sl.train(recipe, data=my_dataset)

Objectives, layouts and scores are plain functions in `sightline.objectives`, `sightline.layout` and
`sightline.scoring`, usable in anybody's own loop.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Recipe": "sightline.config",
    "load_recipe": "sightline.recipe",
    "train": "sightline.training.run",
    "RunResult": "sightline.training.run",
    "make_pairs": "sightline.pairs.make",
    "train_rounds": "sightline.pairs.rounds",
    "load_model": "sightline.models.load",
    "load_processor": "sightline.models.load",
    "add_lora": "sightline.models.lora",
    "family_of": "sightline.models.families.find",
    "load_rows": "sightline.data.sources.load",
    "GroupDataset": "sightline.data.render.dataset",
    "BadRow": "sightline.data.render.dataset",
    "Renderer": "sightline.data.render.render",
    "build_reference": "sightline.forward.reference",
    "encode": "sightline.forward.features",
    "log_probs": "sightline.forward.forward",
    "generate": "sightline.generation.generate",
    "Example": "sightline.types",
    "Group": "sightline.types",
    "Batch": "sightline.types",
    "LogProbs": "sightline.types",
    "Loss": "sightline.types",
    "Prompt": "sightline.types",
    "Sampled": "sightline.generation.sampling",
    "SamplingSettings": "sightline.generation.sampling",
    "Task": "sightline.evaluation.task",
    "Item": "sightline.evaluation.task",
    "Metric": "sightline.evaluation.task",
    "rate": "sightline.scoring.ratio",
    "amount": "sightline.scoring.ratio",
}

__all__ = ["__version__", *_WHERE]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import sightline` and `sightline --help` stay quick."""
    if name not in _WHERE:
        raise AttributeError(f"module 'sightline' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
