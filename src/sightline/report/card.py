"""The model card: what was trained, on which rows, with which figures and curves, and how to load it."""

import json
from pathlib import Path
from typing import Any

import yaml

from sightline.config import Recipe
from sightline.evaluation.asking import Asking
from sightline.recipe import dump_recipe

FIRST = ("loss", "eval_loss", "rewards/accuracies", "rewards/margins", "reward")
"""Figures that come first; the others follow by name."""


def card(
    *,
    name: str,
    base: str,
    recipe: Recipe | None,
    run: dict[str, Any],
    curves: list[str],
    asking: Asking,
    checked: str = "",
    is_adapter: bool = False,
) -> str:
    """Markdown with the hub's front matter.

    run: the run's `sightline.json`, empty where there is none. checked: a sentence on what merging changed. is_adapter:
    whether the folder holds an adapter alone, to be loaded on its base.
    """
    front = {
        "base_model": base,
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["sightline", *([recipe.objective.type] if recipe else [])],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {name}",
        _what(base, recipe, run, is_adapter),
        checked,
        _loading(name, base if is_adapter else None),
        _asking(asking),
        _data(recipe),
        _figures(run.get("metrics", {})),
        "\n".join(f"![{Path(curve).stem.replace('_', ' ')}]({curve})" for curve in curves),
        "" if recipe is None else f"## Recipe\n\n```yaml\n{dump_recipe(recipe)}```",
        _versions(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(base: str, recipe: Recipe | None, run: dict[str, Any], is_adapter: bool) -> str:
    said = f"`{base}`"
    if recipe is not None:
        said += f", trained with {recipe.objective.type.upper()} by Sightline"
        merged = "a LoRA adapter" if is_adapter else "a LoRA adapter, merged"
        said += f" ({merged})" if recipe.lora is not None else " (full weights)"
        if recipe.model.quantize != "none":
            said += f", on a base in {recipe.model.quantize}"
            said += "" if is_adapter else ": the weights here are what those bits stand for"
    steps = f" {run['steps']:,} steps in {run['seconds']:,.0f} s on {run['device']}." if "steps" in run else ""
    return f"{said}.{steps} The base model's licence and terms hold for this model too."


def _loading(name: str, base: str | None) -> str:
    """How to load it; base: the model that an adapter is loaded on."""
    if base is not None:
        return (
            "## Use\n\n```python\nfrom peft import PeftModel\n"
            "from transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
            f'base = AutoModelForImageTextToText.from_pretrained("{base}", dtype="auto")\n'
            f'model = PeftModel.from_pretrained(base, "{name}")\n'
            f'processor = AutoProcessor.from_pretrained("{name}")\n```\n\n'
            f"or `sightline generate {name}`; `sightline export {name} FOLDER` merges it into its base."
        )
    return (
        "## Use\n\n```python\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        f'model = AutoModelForImageTextToText.from_pretrained("{name}", dtype="auto")\n'
        f'processor = AutoProcessor.from_pretrained("{name}")\n```\n\nor `vllm serve {name}`.'
    )


def _asking(asking: Asking) -> str:
    """What a question needs besides itself."""
    if asking.system is None:
        return ""
    quoted = "\n".join(f"> {line}" for line in asking.system.splitlines() or [""])
    return f"It was trained with this system turn; ask with it:\n\n{quoted}"


def _data(recipe: Recipe | None) -> str:
    if recipe is None or not recipe.data.is_given:
        return ""
    rows = [("source", recipe.data.source), ("subset", recipe.data.subset), ("split", recipe.data.split)]
    rows += [("rows at most", recipe.data.limit), ("held out", recipe.data.val_size or None)]
    rows += [("registry", recipe.data.registry), ("mixture", ", ".join(one.source for one in recipe.data.mixture))]
    return "## Data\n\n" + "\n".join(f"- {name}: {value}" for name, value in rows if value)


def _figures(metrics: Any) -> str:
    """A table of the numbers; a run card that somebody damaged may hold other things, which are left out."""
    given = metrics if isinstance(metrics, dict) else {}
    metrics = {name: value for name, value in given.items() if isinstance(value, int | float)}
    if not metrics:
        return ""
    names = [*(n for n in FIRST if n in metrics), *sorted(metrics.keys() - set(FIRST))]
    lines = [f"| {name} | {metrics[name]:.6g} |" for name in names]
    return "\n".join(["## Figures at the end of training", "", "| | |", "|---|---|", *lines])


def _versions(run: dict[str, Any]) -> str:
    return f"## Versions\n\n```json\n{json.dumps(run['versions'], indent=2)}\n```" if "versions" in run else ""
