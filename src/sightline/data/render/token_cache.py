"""Tokenised rows on disk, without pixels: bad and overlong rows are known before the first step, lengths too.

One compressed arrow file for rows + processor + limits, under `cache_folder()`; it is written whole or not at all. A
training worker then takes ids and weights from it and runs the image processor alone, where that was seen to give what
the whole processor gives; a row whose image file has changed since is rendered anew.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int

from sightline.data.checks.check import checked
from sightline.data.defects import RowError
from sightline.data.media.images import LazyImage
from sightline.data.processes import map_in_processes
from sightline.data.render.render import Renderer, labels_of
from sightline.data.rows import Entry, Rows
from sightline.files import whole_file
from sightline.types import Example, Group

BATCH = 64
"""Rows that are compressed together, and decompressed for one of them."""
NUM_COMPARED = 8
"""Rows on which the image processor alone is compared with the whole processor."""
IDS = pa.list_(pa.int32())
ALONG = pa.struct([("name", pa.string()), ("shape", IDS), ("values", IDS)])
SCHEMA = pa.schema(
    [
        ("defect", pa.string()),
        ("what", pa.string()),
        ("where", pa.string()),
        ("stamp", pa.string()),
        ("length", pa.int32()),
        ("num_truncated", pa.int32()),
        ("prompt", IDS),
        ("responses", pa.list_(IDS)),
        ("weights", pa.list_(pa.list_(pa.float32()))),
        ("along", pa.list_(ALONG)),
        ("by_image_processor", pa.bool_()),
    ]
)


@dataclass
class Tokeniser:
    """An entry → its record in the cache. Images are processed, for the number of their tokens.

    num_compared: rows whose images were also given to the image processor alone, to see whether it makes the same of
    them; the first `NUM_COMPARED` of each process are.
    """

    renderer: Renderer
    num_responses: int
    num_compared: int = 0
    alone_suffices: bool = True

    def __call__(self, entry: Entry) -> dict[str, Any]:
        try:
            example = checked(entry.example(), self.num_responses)
            group = self.renderer.group(example) if self.num_responses else self.renderer.prompt(example)
        except RowError as error:
            return {"defect": error.defect, "what": error.what, "where": error.where, "length": 0}
        along, rest = split_inputs(group)
        if example.images and self.num_compared < NUM_COMPARED:
            self.num_compared += 1
            self.alone_suffices &= same_inputs(rest, image_inputs(self.renderer, example))
        plain = all(bool((weight == 1).all()) for weight in group.weights)
        return {
            "stamp": stamp_of(example),
            "length": group.num_tokens,
            "num_truncated": sum(group.truncated.values()),
            "prompt": group.prompt_ids.numpy().astype(np.int32),
            "responses": [ids.numpy().astype(np.int32) for ids in group.responses],
            "weights": None if plain else [weight.numpy() for weight in group.weights],
            "along": [
                {"name": k, "shape": list(v.shape), "values": v.flatten().numpy().astype(np.int32)}
                for k, v in along.items()
            ],
            "by_image_processor": self.alone_suffices,
        }


@dataclass
class TokenCache:
    """The records of a data set, by row index.

    lengths: tokens of each row, prompt and all responses; 0 for a bad row.
    """

    path: Path
    lengths: Int[np.ndarray, " rows"]
    _reader: Any = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "lengths": self.lengths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def group(self, index: int, example: Example, renderer: Renderer) -> Group | None:
        """The row's group with its images processed; None when it has to be rendered anew.

        Raises `RowError` for a row that was found bad.
        """
        record = self._record(index)
        self.raise_if_bad(index)
        if not record["by_image_processor"] or record["stamp"] != stamp_of(example):
            return None
        responses = tuple(torch.tensor(ids) for ids in record["responses"])
        weights = record["weights"] or [np.ones(len(ids), dtype=np.float32) for ids in responses]
        along = {a["name"]: torch.tensor(a["values"]).reshape(a["shape"]) for a in record["along"]}
        return Group(
            id=example.id,
            prompt_ids=torch.tensor(record["prompt"]),
            responses=responses,
            weights=tuple(torch.as_tensor(w, dtype=torch.float32) for w in weights),
            model_inputs={**image_inputs(renderer, example), **along},
            columns=labels_of(example),
            rows=(example.row,),
            truncated={example.id: record["num_truncated"]} if record["num_truncated"] else {},
        )

    def raise_if_bad(self, index: int) -> None:
        """Raise the `RowError` that the row gave when the cache was made."""
        record = self._record(index)
        if record["defect"] is not None:
            raise RowError(record["defect"], record["where"], record["what"])

    def _record(self, index: int) -> dict[str, Any]:
        if self._reader is None:
            file = pa.ipc.open_file(pa.memory_map(str(self.path)))
            self._reader = lru_cache(maxsize=8)(file.get_batch)
        return self._reader(index // BATCH).slice(index % BATCH, 1).to_pylist()[0]


def tokenised(
    rows: Rows, renderer: Renderer, num_responses: int, folder: Path, *, num_processes: int = 1
) -> TokenCache:
    """The cache of these rows, made first where there is none; rows made in Python have a cache of their own run."""
    key = sha256(f"{rows.fingerprint or os.urandom(16).hex()} {renderer.fingerprint} {num_responses}".encode())
    path = folder / f"tokens-{key.hexdigest()[:24]}.arrow"
    if not path.is_file():
        records = map_in_processes(Tokeniser(renderer, num_responses), rows.entries(), num_processes)
        _write(path, records)
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        lengths = [file.get_batch(i).column("length").to_numpy() for i in range(file.num_record_batches)]
    return TokenCache(path, np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int32))


def _write(path: Path, records: Iterator[dict[str, Any]]) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        whole_file(path, shared=True) as aside,
        pa.OSFile(str(aside), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA, options=options) as writer,
    ):
        batch: list[dict[str, Any]] = []
        for record in records:
            batch.append(record)
            if len(batch) == BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))


def split_inputs(group: Group) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Model inputs that run along the prompt ([1, P, …], whole numbers), and the others, which images give."""
    along, rest = {}, {}
    for name, value in group.model_inputs.items():
        is_along = isinstance(value, torch.Tensor) and value.shape[:2] == (1, len(group.prompt_ids))
        (along if is_along and not value.is_floating_point() else rest)[name] = value
    return along, rest


def image_inputs(renderer: Renderer, example: Example) -> dict[str, Any]:
    """What the image processor alone makes of the example's images."""
    if not example.images:
        return {}
    opened = [image.open() for image in example.images]
    try:
        made = renderer.processor.image_processor(images=[opened], return_tensors="pt")
    except ValueError as error:
        where = f"{example.source}, row {example.row_number}"
        raise RowError("processor refuses the row", where, f"the processor says: {error}") from error
    unused = set(getattr(renderer.processor, "unused_input_names", ()))
    return {name: value for name, value in made.items() if name not in unused}


def same_inputs(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal names and values."""
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) if isinstance(one[k], torch.Tensor) else one[k] == other[k] for k in one
    )


def stamp_of(example: Example) -> str:
    """Changes when a row's image files do: sizes of embedded images, sizes and times of files."""
    stamps = []
    for image in example.images:
        assert isinstance(image, LazyImage)
        if image.path is not None:
            status = os.stat(image.path)
            stamps.append(f"{status.st_size}:{status.st_mtime_ns}")
        else:
            stamps.append(str(len(image.data or b"")))
    return " ".join(stamps)
