"""Models by name for evaluation: a hub id, a folder, a run of ours, or an adapter on one loaded base."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import try_to_load_from_cache
from peft import PeftModel
from torch import nn
from transformers import ProcessorMixin

from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.policy.load import EMBEDDED, load_model, load_processor

RUN_CARD = "sightline.json"
ADAPTER = "adapter_config.json"
SETTINGS = (
    "config.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.*",
)
"""Files beside the weights that change answers."""
SMALL = 2**24
"""Bytes up to which a file is hashed whole."""


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a hub id, folder or `embedded`, and the folder of a peft adapter on it, or None."""

    label: str
    base: str
    adapter: str | None = None

    @property
    def origin(self) -> dict[str, Any]:
        """What tells this model's answers from another's: names as they were given, weights, and versions.

        Of a model from the hub also the commit; it is known once the model has been loaded.
        """
        versions = {name: version(name) for name in ("sightline", "transformers", "torch", "peft")}
        base, commit = _folder_of(self.base)
        folders = [base, None if self.adapter is None else Path(self.adapter)]
        weights = [fingerprint(folder) for folder in folders if folder is not None and folder.is_dir()]
        origin = {"model": self.base, "adapter": self.adapter, "weights": weights, "versions": versions}
        return origin if commit is None else {**origin, "commit": commit}


class Loaded(NamedTuple):
    """A model ready to be asked, and its processor."""

    model: nn.Module
    processor: ProcessorMixin


def source_of(text: str, adapter: str | None = None) -> Source:
    """`name`, `label=name`, or a run folder that holds an adapter, as given on the command line.

    An adapter's base is the one that the run card names, else the one that peft wrote down.
    """
    label, equals, name = text.partition("=")
    if not equals or "/" in label:
        label, name = "", text
    folder = Path(name)
    if adapter is None and (folder / ADAPTER).is_file():
        name, adapter = _base_of(folder), str(folder)
    return Source(label or _short(adapter or name), name, adapter)


def fingerprint(folder: Path) -> str:
    """Tells a model from every other: a hash of its weights, of 64 samples of each large file, and its settings."""
    found = hashlib.sha256()
    files = [path for pattern in ("*.safetensors", "*.bin", *SETTINGS) for path in sorted(folder.glob(pattern))]
    for path in files:
        size = path.stat().st_size
        found.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for place in range(64) if size > SMALL else (0,):
                file.seek(place * size // 64)
                found.update(file.read(SMALL if size <= SMALL else 4096))
    return found.hexdigest()[:16]


def _folder_of(base: str) -> tuple[Path | None, str | None]:
    """Where the files of a model are, and its commit where they came from the hub; None where they are not here."""
    if base == "embedded" or Path(base).is_dir():
        return (EMBEDDED if base == "embedded" else Path(base)), None
    found = try_to_load_from_cache(base, "config.json")
    if not isinstance(found, str):
        return None, None
    snapshot = Path(found).parent  # …/snapshots/<commit>/config.json
    return snapshot, snapshot.name


def _base_of(folder: Path) -> str:
    if (folder / RUN_CARD).is_file():
        return json.loads((folder / RUN_CARD).read_text(encoding="utf-8"))["base_model"]
    base = json.loads((folder / ADAPTER).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"The adapter {folder} does not say which model it belongs to (no base_model_name_or_path in {ADAPTER}). "
            f"Name the model, and the adapter with --adapter {folder}."
        )
    return base


def _short(name: str) -> str:
    return Path(name).name or name


class Models:
    """Models by label, loaded when first used. Adapters of one base share its weights: they are swapped, not reloaded.

    At most `keep` bases stay in memory; the one that was used longest ago goes first.
    """

    def __init__(self, sources: list[Source], *, device: str = "auto", dtype: str = "auto", keep: int = 1) -> None:
        doubled = sorted({s.label for s in sources if sum(o.label == s.label for o in sources) > 1})
        if doubled:
            raise ModelError(
                f"Two models are called {doubled[0]!r}. Give each a name of its own: `first={sources[0].base}`."
            )
        self.sources = {s.label: s for s in sources}
        self.device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype, self.keep = dtype, keep
        self._bases: dict[str, Loaded] = {}

    @contextmanager
    def use(self, label: str) -> Iterator[Loaded]:
        """The model of this label, its adapter in force and no other; greedy answers of it are reproducible."""
        source = self.sources[label]
        loaded = self._base(source.base)
        if source.adapter is None:
            if isinstance(loaded.model, PeftModel):
                with loaded.model.disable_adapter():
                    yield loaded
            else:
                yield loaded
            return
        yield self._adapted(source, loaded)

    def _base(self, name: str) -> Loaded:
        if name in self._bases:
            self._bases[name] = self._bases.pop(name)
            return self._bases[name]
        while len(self._bases) >= self.keep:
            del self._bases[next(iter(self._bases))]
        config = ModelConfig(name=name, dtype=self.dtype)  # pyright: ignore[reportArgumentType]
        self._bases[name] = Loaded(load_model(config, self.device), load_processor(config))
        return self._bases[name]

    def _adapted(self, source: Source, loaded: Loaded) -> Loaded:
        """Load the adapter beside those already there, and switch to it."""
        assert source.adapter is not None
        folder = Path(source.adapter)
        if not (folder / ADAPTER).is_file():
            raise ModelError(
                f"There is no adapter in {str(folder)!r} (no {ADAPTER}). Give --adapter the folder of a run that "
                "trained with LoRA; a run without is a model of its own."
            )
        name = source.label.replace(".", "_")
        model = loaded.model
        if not isinstance(model, PeftModel):
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
            self._bases[source.base] = loaded = Loaded(model, loaded.processor)
        elif name not in model.peft_config:
            model.load_adapter(str(folder), adapter_name=name)
        model.set_adapter(name)
        model.eval()
        return loaded
