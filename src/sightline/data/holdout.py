"""Rows held out for evaluation: cut by picture, never by row, so that no picture is both trained and evaluated on."""

import random
from typing import Any

from sightline.data.rows import Rows
from sightline.data.sources import rows_of


def split_by_picture(rows: Any, val_size: float, seed: int) -> tuple[list[int], list[int]]:
    """(indices to train on, indices held out), both ascending.

    rows: `Rows`, or what `rows_of` takes. val_size: a share of the rows below 1, a count from 1 on; met as nearly as
    whole pictures allow, never exceeded unless every picture has more rows. Rows that share any picture go together.
    Rows that cannot be parsed are kept for training, where `on_bad_row` decides about them.
    """
    rows = rows_of(rows)
    wanted = round(val_size * len(rows)) if val_size < 1 else int(val_size)
    wanted = max(wanted, 1) if val_size > 0 else 0
    clusters = _clusters([_keys(rows, i) for i in range(len(rows))])
    random.Random(seed).shuffle(clusters)
    held_out: list[int] = []
    for cluster in clusters:
        if len(held_out) + len(cluster) <= wanted:
            held_out += cluster
    if wanted and not held_out and len(clusters) > 1:
        held_out = min(clusters, key=len)
    kept_out = set(held_out)
    return [i for i in range(len(rows)) if i not in kept_out], sorted(held_out)


def _keys(rows: Rows, index: int) -> tuple[str, ...]:
    return rows.picture_keys(index) or (f"row:{index}",)


def _clusters(keys: list[tuple[str, ...]]) -> list[list[int]]:
    """Rows joined by shared keys, by union-find; in the order of their first rows."""
    parent = list(range(len(keys)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for i, row_keys in enumerate(keys):
        for key in row_keys:
            parent[root(i)] = root(first_with.setdefault(key, i))
    clusters: dict[int, list[int]] = {}
    for i in range(len(keys)):
        clusters.setdefault(root(i), []).append(i)
    return list(clusters.values())
