"""Pairs as an ordinary data set: one parquet file with the images in it, and a page to look at."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline.config import DataConfig
from sightline.data.checks.show import shown, write_page
from sightline.data.export import export
from sightline.data.media.images import LazyImage
from sightline.data.rows import Part, Rows
from sightline.data.sources.load import load_rows
from sightline.pairs.choose import Judged, Pair
from sightline.rollouts.prompts import PromptDataset
from sightline.scenes.image import SceneImage
from sightline.types import AnyImage

FILE = "train.parquet"
PAGE = "pairs.html"
SHOWN = 40
"""Pairs on the page."""
OURS = (
    "images", "image", "prompt", "chosen", "rejected", "score_chosen", "score_rejected", "margin", "reason",
    "rewards_chosen", "rewards_rejected", "tokens_chosen", "tokens_rejected", "times_chosen", "times_rejected",
    "claims_chosen", "claims_rejected", "self_check_chosen", "self_check_rejected",
)  # fmt: skip
"""Columns of a pair; one of the user's that is called so is written as `source_NAME`."""


class PairRows(Sequence):
    """Pairs as conversational rows, made when they are read: images, prompt, both sides, scores, the user's columns."""

    def __init__(self, pairs: Sequence[Pair], prompts: PromptDataset) -> None:
        self.pairs, self.prompts = pairs, prompts

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        pair = self.pairs[index]
        example = self.prompts.groups.example(pair.index)
        columns = {_free(name): value for name, value in example.row.items() if not isinstance(value, LazyImage)}
        sides = {"chosen": pair.chosen, "rejected": pair.rejected}
        return {
            "images": [{"bytes": _encoded(image), "path": None} for image in example.images],
            "prompt": [dict(message) for message in example.prompt],
            **{name: _message(side) for name, side in sides.items()},
            "margin": pair.margin,
            "reason": pair.reason,
            **_about("chosen", pair.chosen),
            **_about("rejected", pair.rejected),
            **columns,
        }


def write_pairs(folder: Path, pairs: Sequence[Pair], prompts: PromptDataset) -> None:
    """Write the data set and the page. Each appears whole or not at all."""
    rows = Rows([Part(table=PairRows(pairs, prompts), source="pairs", format="conversational")])
    export(rows.entries(), rows.entries(), folder / FILE)
    written = load_rows(DataConfig(source=str(folder / FILE), limit=SHOWN))  # pyright: ignore[reportCallIssue]
    write_page(folder / PAGE, [shown(entry) for entry in written.entries()], f"Pairs in {folder.name}")


def _free(name: str) -> str:
    return f"source_{name}" if name in OURS else name


def _message(side: Judged) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": side.completion.text}]}]


def _about(name: str, side: Judged) -> dict[str, Any]:
    """What is known of one side: score, rewards, claims, how long it is, how often it was sampled."""
    found: dict[str, Any] = {f"tokens_{name}": side.completion.num_tokens, f"times_{name}": side.completion.times}
    if side.values:
        found |= {f"score_{name}": side.score, f"rewards_{name}": json.dumps(side.values)}
    found |= {f"{key}_{name}": value for key, value in side.logged.items()}
    return found


def _encoded(image: AnyImage) -> bytes:
    assert isinstance(image, LazyImage)
    return image.png() if isinstance(image, SceneImage) else image.encoded()
