"""Rows → groups, read in DataLoader workers: images are decoded and processed where the row is asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from sightline.config.data import DataConfig
from sightline.data.checks.check import checked
from sightline.data.defects import RowError
from sightline.data.media.image_keys import image_keys
from sightline.data.render.render import Renderer
from sightline.data.render.token_cache import tokenised
from sightline.data.rows import Rows
from sightline.data.sources.download import cache_folder
from sightline.data.sources.load import rows_given
from sightline.errors import RecipeError
from sightline.layout.share import share_prefix
from sightline.types import BadRow, Example, Group

Kind = Literal["pairs", "demonstrations", "labelled responses", "prompts"]
NUM_RESPONSES = {"pairs": 2, "demonstrations": 1, "labelled responses": 1, "prompts": 0}


class GroupDataset(Dataset):
    """The groups of rows; an item is a `Group`, or a `BadRow`.

    rows: `Rows`, or what `rows_of` takes. kind: pairs (chosen, rejected), demonstrations (the answer, or the chosen
    side of a pair), labelled responses (one, desirable or not), prompts (no response).
    With `config.cache_tokens` all rows are tokenised here, once for all runs on the same rows and processor.
    With `config.share_images` consecutive rows on one image are one item; its bad rows are left out of the group
    when they are to be skipped, and listed in its `left_out`.
    """

    def __init__(self, rows: Any, config: DataConfig, renderer: Renderer, kind: Kind) -> None:
        given = rows if isinstance(rows, Rows) else rows_given(rows, config)
        self.rows = given.prompts_only() if kind == "prompts" else given
        self.config, self.renderer = config, renderer
        self.kind: Kind = kind
        self.cache = None
        if config.cache_tokens:
            folder = Path(config.cache_dir).expanduser() if config.cache_dir else cache_folder() / "tokens"
            number = NUM_RESPONSES[kind]
            self.cache = tokenised(self.rows, renderer, number, folder, num_processes=config.dataset_num_proc)
        self.items = _runs_on_one_image(self.rows) if config.share_images else None

    def __len__(self) -> int:
        return len(self.rows) if self.items is None else len(self.items)

    def __getitem__(self, index: int) -> Group | BadRow:
        if self.items is None:
            return self._read(index)
        read = [self._read(row) for row in self.items[index]]
        bad = [item for item in read if isinstance(item, BadRow)]
        groups = [item for item in read if isinstance(item, Group)]
        if not groups or not all(item.skip for item in bad):
            return bad[0]
        shared = share_prefix(groups, self.renderer.image_token_ids) if len(groups) > 1 else groups[0]
        if shared is None:
            raise RecipeError(
                f"data.share_images: this model's prompts differ before the image ({groups[0].id}), so its rows "
                "cannot share it. Set data.share_images to false."
            )
        return replace(shared, left_out=tuple(bad))

    def example(self, index: int) -> Example:
        """Row `index` parsed, checked and cut to the responses that `kind` needs. Raises `RowError`."""
        return check_as(self.rows.example(index), self.kind)

    def bad_row(self, index: int, error: RowError) -> BadRow:
        """What stands for a row that gives no group."""
        return bad_row(self.rows.name(index), error, self.config)

    def _read(self, index: int) -> Group | BadRow:
        try:
            if self.cache is not None:
                self.cache.raise_if_bad(index)
            example = self.example(index)
            cached = None if self.cache is None else self.cache.group(index, example, self.renderer)
            return render(example, self.renderer, self.kind) if cached is None else cached
        except RowError as error:
            return self.bad_row(index, error)


def check_as(example: Example, kind: Kind) -> Example:
    """The example checked and cut to the responses that `kind` needs. Raises `RowError`."""
    return checked(example, NUM_RESPONSES[kind], needs_label=kind == "labelled responses")


def render(example: Example, renderer: Renderer, kind: Kind) -> Group:
    """The group of a checked example. Raises `RowError`."""
    return renderer.prompt(example) if kind == "prompts" else renderer.group(example)


def bad_row(name: str, error: RowError, config: DataConfig) -> BadRow:
    """What stands for a row that gives no group."""
    overlong = error.defect == "overlong" and config.on_overlong == "skip"
    return BadRow(name, str(error), error.defect, overlong or config.on_bad_row == "skip")


def _runs_on_one_image(rows: Rows) -> list[list[int]]:
    """Indices of consecutive rows that read the same up to their last image; rows without one stay alone."""
    runs: list[list[int]] = []
    previous = None
    for index, opening in enumerate(image_keys(rows).openings):
        if opening is not None and opening == previous:
            runs[-1].append(index)
        else:
            runs.append([index])
        previous = opening
    return runs
