"""Models by name for evaluation: a hub id, a folder, a run of ours, or an adapter on one loaded base."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from sightline.evaluation.asking import PLAIN, Asking, as_trained, asking_note
from sightline.evaluation.quantization import WHOLE, Bits, bits_of, recipe_of
from sightline.files import RUN_CARD
from sightline.models.adapter import (
    CONFIG,
    adapter_folder,
    changes_base,
    read_adapter_config,
    require_adapter,
    with_adapter,
)
from sightline.models.folder_checks import read_object
from sightline.models.load import EMBEDDED, load_model, load_processor, read_config
from sightline.models.processor import from_pretrained, set_options

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
    """Where a model comes from: a hub id, folder or `embedded`, and a peft adapter on it (folder or hub id), or None.

    revision: of the base on the hub, as the adapter's recipe names it. bits: that the base is kept in, likewise.
    asking: how it was trained to be asked.
    """

    label: str
    base: str
    adapter: str | None = None
    revision: str | None = None
    bits: Bits = WHOLE
    asking: Asking = PLAIN

    @property
    def origin(self) -> dict[str, Any]:
        """What tells this model's answers from another's: names as they were given, weights, and versions.

        Of a model from the hub also the commit; it is known once the model has been loaded.
        """
        versions = {name: version(name) for name in ("sightline", "transformers", "torch", "peft")}
        base, commit = _folder_of(self.base, self.revision)
        folders = [base, None if self.adapter is None else adapter_folder(self.adapter)]
        weights = [fingerprint(folder) for folder in folders if folder is not None and folder.is_dir()]
        origin = {"model": self.base, "adapter": self.adapter, "weights": weights, "versions": versions}
        origin |= self.bits.fields() | self.asking.fields()
        return origin if commit is None else {**origin, "commit": commit}


class Loaded(NamedTuple):
    """A model ready to be asked, and its processor."""

    model: nn.Module
    processor: ProcessorMixin


def source_of(text: str, adapter: str | None = None) -> Source:
    """`name`, `label=name`, or an adapter (run folder or hub id), as given on the command line.

    An adapter's base is the one that the run card names, else the one that peft wrote down; its run's recipe says in
    how many bits it is kept. A run's recipe, or the card of an exported model, says how it is asked.
    """
    label, equals, name = text.partition("=")
    if not equals or "/" in label:
        label, name = "", text
    folder = adapter_folder(adapter or name)
    recipe = None if folder is None else recipe_of(folder)
    bits = WHOLE if recipe is None else bits_of(recipe.model)
    asking = _asking(folder, name)
    if folder is None or adapter is not None:
        return Source(label or _short(adapter or name), name, adapter, bits=bits, asking=asking)
    revision = recipe.model.revision if recipe else None
    return Source(label or _short(name), _base_of(folder), name, revision, bits, asking)


def _asking(adapter: Path | None, name: str) -> Asking:
    """As the adapter was trained, or where that is nothing, the model of this name."""
    asking = PLAIN if adapter is None else as_trained(adapter)
    is_model = asking == PLAIN and name != "embedded" and Path(name).is_dir()
    return as_trained(Path(name)) if is_model else asking


def processor_of(folder: Path, config: ModelConfig) -> ProcessorMixin:
    """The processor saved in a run's or adapter's folder, with its recipe's options; the base's where there is none."""
    if (folder / "processor_config.json").is_file() or (folder / "preprocessor_config.json").is_file():
        return from_pretrained(str(folder), read_config(config), None, config.trust_remote_code)
    return load_processor(config)


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


def _folder_of(base: str, revision: str | None) -> tuple[Path | None, str | None]:
    """Where the files of a model are, and its commit where they came from the hub; None where they are not here."""
    if base == "embedded" or Path(base).is_dir():
        return (EMBEDDED if base == "embedded" else Path(base)), None
    found = try_to_load_from_cache(base, "config.json", revision=revision)
    if not isinstance(found, str):
        return None, None
    snapshot = Path(found).parent  # …/snapshots/<commit>/config.json
    return snapshot, snapshot.name


def _base_of(folder: Path) -> str:
    if (folder / RUN_CARD).is_file():
        base = read_object(folder / RUN_CARD).get("base_model")
        if isinstance(base, str) and base:
            return base
        raise ModelError(f"{folder / RUN_CARD} does not say which model the run trained (`base_model`).")
    base = read_adapter_config(folder).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"The adapter {folder} does not say which model it belongs to (no base_model_name_or_path in {CONFIG}). "
            f"Name the model, and the adapter with --adapter {folder}."
        )
    return base


def _short(name: str) -> str:
    return Path(name).name or name


def _beside(source: Source, others: list[Source]) -> Source:
    """A base in the bits of the adapters on it, and asked as they are, where those agree; all else as it is."""
    if source.adapter is not None:
        return source
    on_it = [other for other in others if other.adapter is not None and _place(other.base) == _place(source.base)]
    bits, asking = {other.bits for other in on_it}, {other.asking for other in on_it}
    return replace(
        source,
        bits=bits.pop() if len(bits) == 1 else source.bits,
        asking=asking.pop() if len(asking) == 1 else source.asking,
    )


def _place(base: str) -> str:
    """One name for a base that may be written in several ways."""
    folder = EMBEDDED if base == "embedded" else Path(base)
    return str(folder.resolve()) if folder.is_dir() else base


class Models:
    """Models by label, loaded when first used. Adapters of one base share its weights: they are swapped, not reloaded.

    Each sees images through its own processor, an adapter through the one saved beside it. options: of all
    processors, by their own names, over what they were saved with. At most `keep` bases stay in memory; the one that
    was used longest ago goes first. An adapter that changes its base (PiSSA) has one of its own. A base beside adapters
    that were all trained on it in the same few bits, or with the same system turn, is kept and asked like them: then
    the adapter is all that differs. system, allow_tokens: how all are asked instead of as trained (`Asking.changed`).
    """

    def __init__(
        self,
        sources: list[Source],
        *,
        device: str = "auto",
        dtype: str = "auto",
        keep: int = 1,
        options: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
        system: str | None = None,
        allow_tokens: Sequence[str] | None = None,
    ) -> None:
        doubled = sorted({s.label for s in sources if sum(o.label == s.label for o in sources) > 1})
        if doubled:
            raise ModelError(
                f"Two models are called {doubled[0]!r}. Give each a name of its own: `first={sources[0].base}`."
            )
        beside = [_beside(s, sources) for s in sources]
        self.sources = {s.label: replace(s, asking=s.asking.changed(system, allow_tokens)) for s in beside}
        self.asking_is_given = system is not None or allow_tokens is not None
        self.device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype, self.keep, self.options, self.trust = dtype, keep, options or {}, trust_remote_code
        self._bases: dict[tuple[Any, ...], nn.Module] = {}
        self._processors: dict[str, ProcessorMixin] = {}
        self._adapters: dict[str, Path] = {}

    @contextmanager
    def use(self, label: str) -> Iterator[Loaded]:
        """The model of this label, its adapter in force and no other; greedy answers of it are reproducible."""
        source = self.sources[label]
        # the processor first: an adapter that is missing is named before a model is loaded
        processor, model = self._processor(source), self._base(source)
        if source.adapter is not None:
            yield Loaded(self._adapted(source, model), processor)
        elif isinstance(model, PeftModel):
            with model.disable_adapter():
                yield Loaded(model, processor)
        else:
            yield Loaded(model, processor)

    def asking(self, label: str) -> Asking:
        """How the model of this label is asked."""
        return self.sources[label].asking

    def asking_note(self, labels: Iterable[str] | None = None) -> str | None:
        """One sentence on how they are asked, by default all; None where there is nothing to say."""
        asked = {label: self.asking(label) for label in (self.sources if labels is None else labels)}
        return asking_note(asked, is_given=self.asking_is_given)

    def origin(self, label: str) -> dict[str, Any]:
        """The source's, and the options that were given for all."""
        found = self.sources[label].origin
        return {**found, "processor": self.options} if self.options else found

    def _config(self, source: Source) -> ModelConfig:
        # a name is no permission: whether code from its folder may run, the user says to the command
        given: dict[str, Any] = {"dtype": self.dtype, "trust_remote_code": self.trust, **source.bits.fields()}
        return ModelConfig(name=source.base, revision=source.revision, **given)

    def _key(self, source: Source) -> tuple[Any, ...]:
        """Of its base. One whose weights an adapter changes is nobody else's."""
        shared = (source.base, source.revision, source.bits)
        if source.adapter is None:
            return shared
        folder = self._folder(source)
        return (*shared, str(folder)) if changes_base(read_adapter_config(folder)) else shared

    def _base(self, source: Source) -> nn.Module:
        key = self._key(source)
        if key in self._bases:
            self._bases[key] = self._bases.pop(key)
            return self._bases[key]
        while len(self._bases) >= self.keep:
            del self._bases[next(iter(self._bases))]
        self._bases[key] = load_model(self._config(source), self.device)
        return self._bases[key]

    def _processor(self, source: Source) -> ProcessorMixin:
        if source.label not in self._processors:
            config = self._config(source)
            found = load_processor(config) if source.adapter is None else processor_of(self._folder(source), config)
            set_options(found, self.options)
            self._processors[source.label] = found
        return self._processors[source.label]

    def _folder(self, source: Source) -> Path:
        """Of the adapter; looked for once, since the hub is far away."""
        assert source.adapter is not None
        if source.label not in self._adapters:
            self._adapters[source.label] = require_adapter(source.adapter)
        return self._adapters[source.label]

    def _adapted(self, source: Source, model: nn.Module) -> PeftModel:
        """Load the adapter beside those already there, and switch to it."""
        # peft keeps adapters in a ModuleDict beside its own attributes: a user's label (`train`, `weight`) could be one
        folder, name = str(self._folder(source)), f"adapter_{list(self.sources).index(source.label)}"
        if not isinstance(model, PeftModel) or name not in model.peft_config:
            model = with_adapter(model, folder, name=name)
            self._bases[self._key(source)] = model
        model.set_adapter(name)
        model.eval()
        return model


def reading_note(processors: Mapping[str, ProcessorMixin]) -> str | None:
    """One sentence on the options of the image processors that differ from the first of their class; None for none.

    A resolution that differs is not what training changed.
    """
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    differing = []
    for label, processor in processors.items():
        options = _options(processor)
        reference, theirs = first.setdefault(type(processor).__name__, (label, options))
        differing += [
            f"{name} is {theirs.get(name)} for {reference} and {options.get(name)} for {label}"
            for name in sorted(theirs.keys() | options.keys())
            if theirs.get(name) != options.get(name)
        ]
    if not differing:
        return None
    return f"The models do not see images alike: {'; '.join(differing)}. `--processor` sets an option for all of them."


def _options(processor: ProcessorMixin) -> dict[str, Any]:
    """Plain values of the image processor and of the processor itself, sizes by their sides."""
    images: Any = processor.image_processor  # pyright: ignore[reportAttributeAccessIssue]
    found = {name: value for name, value in vars(images).items() if not name.startswith("_")}
    size = found.pop("size", None) or {}
    found |= {f"size.{side}": value for side, value in dict(size).items() if value is not None}
    found |= {name: value for name, value in vars(processor).items() if isinstance(value, bool | int | float)}
    return {name: value for name, value in found.items() if isinstance(value, bool | int | float)}
