"""Rows held out for evaluation: cut by image, never by row, so that no image is both trained and evaluated on."""

import random
from typing import Any

from sightline.data.media.image_keys import image_keys
from sightline.data.rows import Rows
from sightline.data.sources.load import rows_of
from sightline.errors import DataError


def split_by_image(rows: Any, val_size: float | int, seed: int) -> tuple[list[int], list[int]]:
    """(indices to train on, indices held out), both ascending.

    rows: `Rows`, or what `rows_of` takes. val_size: a share of the rows below 1, a count from 1 on; met as nearly as
    whole images allow, never exceeded unless every image has more rows. Rows that share any image go together.
    Rows that cannot be parsed are kept for training, where `on_bad_row` decides about them.
    Raises `DataError` when nothing would be left to train on, or nothing can be held out.
    """
    rows = rows_of(rows)
    wanted = round(val_size * len(rows)) if val_size < 1 else int(val_size)
    wanted = max(wanted, 1) if val_size > 0 else 0
    clusters = clusters_by_image(rows)
    random.Random(seed).shuffle(clusters)
    held_out: list[int] = []
    for cluster in clusters:
        if len(held_out) + len(cluster) <= wanted:
            held_out += cluster
    if wanted and not held_out and len(clusters) > 1:
        held_out = min(clusters, key=len)
    if wanted and rows and not held_out:
        raise DataError(_nothing_held_out(rows, clusters))
    kept_out = set(held_out)
    train = [i for i in range(len(rows)) if i not in kept_out]
    if rows and not train:
        raise DataError(f"data.val_size: holding out {wanted} of {len(rows)} rows leaves none to train on. Lower it.")
    return train, sorted(held_out)


def _nothing_held_out(rows: Rows, clusters: list[list[int]]) -> str:
    """Why no row can be held out."""
    if not clusters:
        return "data.val_size: no row can be read, so none can be held out. `sightline data check` says what is wrong."
    return (
        f"data.val_size: nothing can be held out, because images join all {len(clusters[0]):,} rows that can be read "
        f"({rows.name(clusters[0][0])} with every other, by one image or through others): any cut would train on "
        "images of held-out rows. Give held-out rows by data.eval_source, or set data.val_size to 0."
    )


def clusters_by_image(rows: Rows) -> list[list[int]]:
    """Rows joined by the images they share, by union-find, in order of their first rows; bad rows left out."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for index, keys in enumerate(image_keys(rows).keys):
        if keys is None:
            continue
        parent[index] = index
        for key in keys:
            parent[root(index)] = root(first_with.setdefault(key, index))
    clusters: dict[int, list[int]] = {}
    for index in parent:
        clusters.setdefault(root(index), []).append(index)
    return list(clusters.values())
