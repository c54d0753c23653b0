"""The reference while training: log-probs computed once and kept on disk, or a copy that follows the policy (TR-DPO).

Files of precomputed log-probs are named after short hashes of what they depend on: model, rows, chat template,
processor.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import TrainerControl, TrainerState, TrainingArguments

from sightline.config import Recipe
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.data.rows import Rows
from sightline.errors import DataError, RecipeError
from sightline.files import whole_file, write_text
from sightline.forward.moving_reference import load_moved_state, move_reference, moved_state
from sightline.forward.reference import Reference, is_neutral
from sightline.training.checkpoint.files import InCheckpoint, explain_unreadable
from sightline.training.checkpoint.run_folder import explain_disk_errors
from sightline.training.step.micro_batch import StepSettings, with_companions
from sightline.training.step.scoring import score_by_policy
from sightline.training.watch.progress import bar
from sightline.transfer import move_together
from sightline.types import Batch, Group, LogProbs

FOLDER = "reference"
"""Name of the folder in the run's, where the recipe names no other."""
MANIFEST = "manifest.json"
ROWS = 256
"""Rows per file: at most so many are computed again after a stop."""
SAMPLED = 2**16
"""About how many values of a row's images its key depends on."""
CHANGES = {
    "model": "another model (or other weights, precision or quantisation)",
    "data": "other rows",
    "template": "another chat template",
    "processor": "another processor (or its options, `data.max_length` or `data.on_overlong`)",
}


@dataclass(frozen=True)
class PrecomputedReference:
    """Log-probs by group key: a reference as `forward.reference.Reference` is, without a model."""

    known: dict[bytes, Tensor]
    folder: Path
    mode: str = "precomputed"

    def log_probs(self, batch: Batch, *, groups: list[Group], temperature: float = 1.0, **_: Any) -> LogProbs:
        """Log-probs of the batch's targets, from memory. Raises `DataError` for a row without computed ones."""
        assert temperature == 1.0, "log-probs were computed at temperature 1"
        parts = [self._of(group) for group in groups]
        return LogProbs(
            logp=move_together([torch.cat([*parts, torch.zeros(0)])], batch.weight.device)[0],
            weight=batch.weight,
            response=batch.response,
            response_group=batch.response_group,
            num_groups=batch.num_groups,
        )

    def _of(self, group: Group) -> Tensor:
        found = self.known.get(key_of(group))
        if found is None:
            raise DataError(
                f"{group.id} differs from when the reference's log-probs in {self.folder} were computed (its tokens "
                "or its image). Delete that folder, or name another with `reference.path`, to compute them "
                "again."
            )
        return found


def key_of(group: Group) -> bytes:
    """16 bytes that change with the group's id, tokens, targets and images, whatever its layout."""
    digest = blake2b(group.id.encode(), digest_size=16)
    # which tokens are targets, not what they weigh: DDPO weighs them in each step
    targets = [weight > 0 for weight in group.weights]
    for ids in (group.prompt_ids, *group.responses, *targets):
        digest.update(len(ids).to_bytes(4, "little") + ids.contiguous().numpy().tobytes())
    for name in sorted(group.model_inputs):
        value = group.model_inputs[name]
        if isinstance(value, Tensor):
            flat = value.flatten()
            digest.update(repr(value.shape).encode() + flat[:: max(1, len(flat) // SAMPLED)].numpy().tobytes())
    return digest.digest()


def precomputed_reference(trainer: Any, recipe: Recipe, console: Console) -> PrecomputedReference:
    """The reference of a run with `reference.type: precomputed`: its log-probs are checked, computed if missing, read.

    trainer: an `AlignmentTrainer` before its first step; its policy is still the reference. Every process calls this.
    Raises `RecipeError` where rows are not known before training, or the folder was computed for something else.
    """
    datasets = {"train": trainer.train_dataset}
    if trainer.eval_dataset is not None:
        datasets["eval"] = trainer.eval_dataset
    folder = Path(recipe.reference.path or Path(recipe.output_dir) / FOLDER)
    now = fingerprints(trainer.model, datasets, precision=f"autocast to bfloat16: {trainer.args.bf16}")
    if trainer.is_world_process_zero():
        check_manifest(folder, now)
    trainer.accelerator.wait_for_everyone()
    totals = {name: len(dataset) for name, dataset in datasets.items()}
    missing = [
        file for name, total in totals.items() for file, _ in files_of(folder, name, total) if not file.is_file()
    ]
    if missing and trainer.is_world_process_zero():
        console.print(
            f"Computing the reference's log-probs of {sum(totals.values()):,} rows into {folder}", highlight=False
        )
    with bar(console) if missing and console.is_terminal else nullcontext() as shown:
        for name, dataset in datasets.items():
            task = None if shown is None else shown.add_task(f"Reference, {name}", total=totals[name], figures="")

            def progress(done: int, total: int, task: Any = task) -> None:
                if shown is not None:
                    shown.update(task, completed=done)
                elif trainer.is_world_process_zero():
                    console.print(f"Reference's log-probs: {done:,} of {total:,} rows", highlight=False)

            precompute(
                trainer.model,
                dataset,
                folder,
                name,
                trainer.settings,
                collate=trainer.data_collator,
                batch_size=trainer.args.per_device_eval_batch_size,
                num_workers=trainer.args.dataloader_num_workers,
                progress=progress,
            )
    trainer.accelerator.wait_for_everyone()
    return read(folder, totals)


def check_manifest(folder: Path, now: dict[str, str]) -> None:
    """Check that a folder of log-probs was computed for what is trained now; write the manifest of a new one.

    Raises `RecipeError` with the names and hashes of what changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise RecipeError(
                f"`reference.path: {folder}` holds files, but no {MANIFEST} of precomputed log-probs. Name a "
                "new folder."
            )
        with explain_disk_errors(folder.parent):
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(now, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(
            f"{path} cannot be read ({error}), so it is unknown what the log-probs beside it were computed for. "
            "Delete the folder, or name another with `reference.path`, to compute them again."
        ) from None
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        differences = "; ".join(f"{CHANGES[name]}: `{name}` is {now[name]}, was {before.get(name)}" for name in changed)
        raise RecipeError(
            f"The reference's log-probs in {folder} were computed for something else. Now: {differences}. Delete the "
            "folder, or name another with `reference.path`, to compute them again; or go back to what they were "
            "computed for."
        )


def fingerprints(model: nn.Module, datasets: dict[str, Dataset], *, precision: str) -> dict[str, str]:
    """Hashes of what log-probs depend on: model, data, template, processor."""
    found = [rows_and_renderer(dataset) for dataset in datasets.values()]
    rows = "".join(fingerprint_of(rows) for rows, _ in found)
    return {
        "model": fingerprint_of_weights(model, precision),
        "data": short(rows.encode()),
        "template": short(repr(found[0][1].templates).encode()),
        "processor": short(found[0][1].fingerprint_without_template.encode()),
    }


def fingerprint_of_weights(model: nn.Module, precision: str) -> str:
    """Hash of every weight that a forward uses; an adapter that adds nothing yet is left out: its start is random."""
    digest = blake2b(precision.encode(), digest_size=6)
    neutral = is_neutral(model)
    for name, weight in sorted(model.named_parameters(), key=lambda item: item[0].replace(".base_layer", "")):
        if neutral and ("lora_" in name):
            continue
        digest.update(repr((weight.dtype, tuple(weight.shape))).encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of(rows: Rows) -> str:
    """Hash of rows: by what is known of their files, or of rows made in Python by all that is in them."""
    if rows.fingerprint is not None:
        return rows.fingerprint
    digest = blake2b(digest_size=16)
    for index in range(len(rows)):
        example = rows.example(index)
        digest.update(repr((example.id, example.prompt, example.responses)).encode())
        for image in example.images:
            opened = image.open()
            digest.update(repr(opened.size).encode() + opened.tobytes())
    return digest.hexdigest()


def rows_and_renderer(dataset: Any) -> tuple[Rows, Renderer]:
    """The rows that a data set of groups reads, and what renders them."""
    while not isinstance(dataset, GroupDataset):  # pairs with corrupted images hold one
        dataset = dataset.dataset
    return dataset.rows, dataset.renderer


def short(data: bytes) -> str:
    """12 hexadecimal digits."""
    return blake2b(data, digest_size=6).hexdigest()


def precompute(
    model: nn.Module,
    dataset: Dataset,
    folder: Path,
    name: str,
    settings: StepSettings,
    *,
    collate: Callable[[list], dict[str, list]],
    batch_size: int,
    num_workers: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write the missing files of one data set's log-probs; every process writes its own. Bad rows are left out."""
    total: int = len(dataset)  # type: ignore[arg-type]
    for file, first in files_of(folder, name, total):
        if (first // ROWS) % settings.num_processes != settings.process_index or file.is_file():
            continue
        chosen = range(first, min(first + ROWS, total))
        loader = DataLoader(Subset(dataset, chosen), batch_size, collate_fn=collate, num_workers=num_workers)
        keys, parts = [], []
        for batch in loader:
            groups = [replace(group, companions=()) for group in with_companions(batch["groups"])]
            for group, scored in zip(groups, score_by_policy(model, groups, settings) if groups else [], strict=True):
                keys.append(torch.frombuffer(bytearray(key_of(group)), dtype=torch.uint8))
                parts.append(scored.logp)
        _write(file, keys, parts)
        progress(chosen[-1] + 1, total)


def files_of(folder: Path, name: str, total: int) -> Iterator[tuple[Path, int]]:
    """Each file of a data set's log-probs, and the first of its rows."""
    for first in range(0, total, ROWS):
        yield folder / f"{name}-{first // ROWS:05d}.safetensors", first


def _write(file: Path, keys: list[Tensor], parts: list[Tensor]) -> None:
    """Write the log-probs of some rows, whole or not at all."""
    tensors = {
        "key": torch.stack(keys) if keys else torch.zeros(0, 16, dtype=torch.uint8),
        "length": torch.tensor([len(part) for part in parts], dtype=torch.long),
        "logp": torch.cat([*parts, torch.zeros(0)]),
    }
    with explain_disk_errors(file.parent), whole_file(file) as aside:
        save_file(tensors, aside)


def read(folder: Path, totals: dict[str, int]) -> PrecomputedReference:
    """The log-probs in all files of these data sets. Raises `DataError` for a damaged file."""
    known: dict[bytes, Tensor] = {}
    for name, total in totals.items():
        for file, _ in files_of(folder, name, total):
            try:
                tensors = load_file(file)
            except SafetensorError as error:
                raise DataError(f"{file} is damaged ({error}). Delete it: its rows are computed again.") from None
            parts = tensors["logp"].split(tensors["length"].tolist())
            keys = [bytes(key.tolist()) for key in tensors["key"]]
            known |= dict(zip(keys, parts, strict=True))
    return PrecomputedReference(known, folder)


FILE = "reference.safetensors"
"""In a checkpoint: a reference that moves."""


class ReferenceUpdates(InCheckpoint):
    """Moves the reference towards the policy by `weight` after every `every` optimizer steps (TR-DPO)."""

    def __init__(self, reference: Reference, policy: nn.Module, *, every: int, weight: float) -> None:
        self.reference, self.policy = reference, policy
        self.every, self.weight = every, weight

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            move_reference(self.reference, self.policy, weight=self.weight)

    def save_into(self, checkpoint: Path) -> None:
        """Write the reference as it is now."""
        save_file(moved_state(self.reference, self.policy), checkpoint / FILE)

    def resume(self, checkpoint: Path) -> None:
        """Put back the reference of a checkpoint."""
        with explain_unreadable(checkpoint):
            load_moved_state(self.reference, load_file(checkpoint / FILE))
