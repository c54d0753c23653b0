"""Whether a resumed run reads the rows that it was started with: files are overwritten, and data is given in Python.

Looked at are how many rows there are and the texts of some of them; images are not read. Rows that are streamed say by
themselves where they come from (`data.stream`).
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from torch.utils.data import Dataset

from sightline.data.defects import RowError
from sightline.data.render.dataset import GroupDataset
from sightline.data.rows import Rows
from sightline.errors import DataError
from sightline.rollouts.prompts import PromptDataset

NUM_LOOKED_AT = 64


class SameRows:
    """A `Part` of a checkpoint that refuses to go on with other rows. dataset: gives the data set, when it is asked."""

    def __init__(self, dataset: Callable[[], Dataset]) -> None:
        self.dataset = dataset
        self.known: dict[str, Any] | None = None

    def state(self) -> dict[str, Any]:
        """How many rows there are, and hashes of some of them."""
        if self.known is None:
            rows = rows_of(self.dataset())
            step = max(1, -(-len(rows) // NUM_LOOKED_AT))
            self.known = {"number": len(rows), "texts": [hash_of(rows, i) for i in range(0, len(rows), step)]}
        return self.known

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises `DataError` where there are other rows than those that `state` is of."""
        now, before = self.state(), state
        if now["number"] != before["number"]:
            what = f"there are {now['number']:,}, and were {before['number']:,}"
        elif any(None not in pair and len({*pair}) > 1 for pair in zip(now["texts"], before["texts"], strict=True)):
            what = f"there are still {now['number']:,}, but their texts have changed"
        else:
            return
        raise DataError(
            f"The rows are not those that this run was started with: {what}. Some would be trained on twice and some "
            "never. Put the old ones back, or start a new run from the checkpoint's weights (`lora.adapter`, or "
            "`model.name`) in another `output_dir`."
        )


def rows_of(dataset: Any) -> Rows:
    """The rows that a data set of groups or prompts reads."""
    if isinstance(dataset, PromptDataset):
        dataset = dataset.groups
    while not isinstance(dataset, GroupDataset):  # pairs with corrupted images hold one
        dataset = dataset.dataset
    return dataset.rows


def hash_of(rows: Rows, index: int) -> str | None:
    """Hash of a row's texts; None of a bad one, which other settings may make a good one."""
    try:
        example = rows.example(index)
    except RowError:
        return None
    return blake2b(repr((example.prompt, example.responses)).encode(), digest_size=8).hexdigest()
