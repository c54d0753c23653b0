"""Short hashes of what log-probs depend on: model, rows, chat template, processor."""

from hashlib import blake2b
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from sightline.data.dataset import GroupDataset
from sightline.data.render import Renderer
from sightline.data.rows import Rows
from sightline.policy.reference import is_neutral


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


def short(data: bytes) -> str:
    """12 hexadecimal digits."""
    return blake2b(data, digest_size=6).hexdigest()


def fingerprint_of_weights(model: nn.Module, precision: str) -> str:
    """Of every weight that answers; an adapter that adds nothing yet is left out, for its start is random."""
    digest = blake2b(precision.encode(), digest_size=6)
    neutral = is_neutral(model)
    for name, weight in sorted(model.named_parameters(), key=lambda item: item[0].replace(".base_layer", "")):
        if neutral and ("lora_" in name):
            continue
        digest.update(repr((weight.dtype, tuple(weight.shape))).encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of(rows: Rows) -> str:
    """Of rows of files by what is known of the files; of rows made in Python by all that is in them."""
    if rows.fingerprint is not None:
        return rows.fingerprint
    digest = blake2b(digest_size=16)
    for index in range(len(rows)):
        example = rows.example(index)
        digest.update(repr((example.id, example.prompt, example.responses)).encode())
        for picture in example.images:
            opened = picture.open()
            digest.update(repr(opened.size).encode() + opened.tobytes())
    return digest.hexdigest()


def rows_and_renderer(dataset: Any) -> tuple[Rows, Renderer]:
    """What a data set of groups reads."""
    while not isinstance(dataset, GroupDataset):  # pairs with corrupted pictures hold one
        dataset = dataset.dataset
    return dataset.rows, dataset.renderer
