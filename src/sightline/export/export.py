"""From a run's folder to a model's: merge, check, write, and push where asked."""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from transformers import PreTrainedModel, ProcessorMixin

from sightline import __version__
from sightline.config import ModelConfig, Recipe
from sightline.errors import UserError
from sightline.evaluation.asking import Asking, as_trained
from sightline.evaluation.models import processor_of, source_of
from sightline.evaluation.quantization import recipe_of
from sightline.export.agreement import Agreement, agreement, probe, score
from sightline.export.merge import load_base, merged
from sightline.files import RUN_CARD
from sightline.models.adapter import adapter_folder, require_adapter, with_adapter
from sightline.report.card import card
from sightline.training.checkpoint.run_folder import explain_disk_errors

Precision = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Where the model is, and how far merging and rounding changed it."""

    folder: Path
    agreement: Agreement


def export(
    run: str,
    folder: Path,
    *,
    dtype: Precision = "bfloat16",
    device: str = "cpu",
    console: Console | None = None,
    name: str | None = None,
    trust_remote_code: bool = False,
) -> Exported:
    """Write the model of a run (or of a peft adapter's folder) as one that plain transformers and vLLM load.

    run: a run's folder, or an adapter's, or its hub id. folder: a new one. name: by which the model card says how to
    load it, the folder's where it is left out. trust_remote_code: whether Python code beside the model is run; the
    run's recipe cannot switch it on. Raises `UserError` and its kinds; then nothing is written.
    """
    console = console or Console(quiet=True)
    source = adapter_folder(run) or Path(run)
    if not source.is_dir():
        raise UserError(
            f"There is no folder {run}. Give the folder of a finished run, or a peft adapter (folder or hub id)."
        )
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already. Name a new folder to export into.")
    recipe = recipe_of(source)
    base, adapter = _base_and_adapter(run)
    if adapter is None and not (source / "config.json").is_file():
        raise UserError(
            f"{run} holds no adapter (adapter_config.json) and no model (config.json). Give the folder of a finished "
            "run, or a peft adapter (folder or hub id)."
        )
    config = _model_config(recipe, base, trust_remote_code)
    console.print(f"Loading {base}{' and its adapter' if adapter else ''}", highlight=False)
    processor = processor_of(source, config)
    model: Any = load_base(config, device)
    precision = getattr(torch, dtype)
    asking = as_trained(source)
    group = probe(processor, asking)
    before = score(model, group)
    if adapter is None:
        trained = before
        whole: PreTrainedModel = model.to(precision)
    else:
        policy = with_adapter(model, require_adapter(adapter))
        trained = score(policy, group)
        whole = merged(policy, precision)
    checked = agreement(trained, before, score(whole, group), precision)
    console.print(checked.sentence(), highlight=False)
    if not checked.is_kept:
        console.print(
            f"Warning: {dtype} rounds away a good part of what training did. `--dtype float32` keeps it.",
            highlight=False,
        )
    _write(folder, source, whole, processor, recipe, base, checked, name or folder.name, asking)
    console.print(f"Saved to {folder}", highlight=False)
    return Exported(folder=folder, agreement=checked)


def check_hub_name(name: str) -> None:
    """Raise `UserError` where the hub could not have a repository of this name: before anything is computed."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"`--push-to-hub {name}` is no name of a repository, such as USER/NAME: {error}") from None


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload an exported folder to the hub as `name`; returns its address. Raises `UserError` where that fails."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export by Sightline")
    except Exception as error:  # of the hub's library or of its HTTP client, which differs by version
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"{folder} is written, but could not be pushed to {name}: {reason}. Log in with `hf auth login`, see that "
            f"the network is there (HF_HUB_OFFLINE is not set), and push it with `hf upload {name} {folder}`."
        ) from error
    return str(address)


def _base_and_adapter(run: str) -> tuple[str, str | None]:
    """Names of the base and of the adapter's folder; a run of full weights is its own base."""
    source = source_of(run)
    return (run, None) if source.adapter is None else (source.base, source.adapter)


def _model_config(recipe: Recipe | None, base: str, trust_remote_code: bool) -> ModelConfig:
    if recipe is None:
        return ModelConfig(name=base, trust_remote_code=trust_remote_code)
    own = replace(recipe.model, name=base, random_weights=False, trust_remote_code=trust_remote_code)
    return own if recipe.lora is not None else replace(own, revision=None)


def _write(
    folder: Path,
    source: Path,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    recipe: Recipe | None,
    base: str,
    checked: Agreement,
    name: str,
    asking: Asking,
) -> None:
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    with explain_disk_errors(folder.parent):
        try:
            aside.mkdir(parents=True)
            model.save_pretrained(aside)
            processor.save_pretrained(aside)
            curves = sorted((source / "curves").glob("*.png"))
            for curve in curves:
                (aside / "curves").mkdir(exist_ok=True)
                shutil.copy(curve, aside / "curves" / curve.name)
            run = json.loads((source / RUN_CARD).read_text(encoding="utf-8")) if (source / RUN_CARD).is_file() else {}
            text = card(
                name=name,
                base=run.get("base_model") or base,
                recipe=recipe,
                run=run,
                curves=[f"curves/{curve.name}" for curve in curves],
                checked=checked.sentence(),
                asking=asking,
            )
            (aside / "README.md").write_text(text, encoding="utf-8")
            said = {"sightline": __version__, "base_model": run.get("base_model") or base, **asking.fields()}
            (aside / RUN_CARD).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
            if folder.exists():
                folder.rmdir()
            os.replace(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
