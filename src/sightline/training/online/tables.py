"""Tables of sampled completions: `OUTPUT/completions/completions_00010.parquet`, named as TRL's, one row each."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL.Image import Image

from sightline.files import whole_file
from sightline.report.contents import Answer, Round, Sample
from sightline.rewards.completions import question_of
from sightline.training.online.rollouts import Rollout

THUMBNAIL = 256
"""Longest edge of the image in a table, in pixels."""


def completions_path(folder: Path, step: int) -> Path:
    """Where the table of a step goes."""
    return folder / "completions" / f"completions_{step:05d}.parquet"


def completion_rows(
    rollouts: list[Rollout], advantages: list[list[float]], reward_names: list[str], step: int
) -> list[dict[str, Any]]:
    """A row per completion: step, row, question, text, rewards, their sum, advantage, what rewards logged, image."""
    rows = []
    for each, mine in zip(rollouts, advantages, strict=True):
        images = each.prompt.images
        image = {"bytes": _thumbnail(images[0].open()), "path": None} if images else None
        for k, text in enumerate(each.texts):
            values = {f"rewards/{name}": float(each.values[k, i]) for i, name in enumerate(reward_names)}
            rows.append(
                {
                    "step": step,
                    "row": each.prompt.id,
                    "prompt": question_of(each.prompt.as_given),
                    "completion": text,
                    **values,
                    "reward": float(each.total[k]),
                    "advantage": mine[k],
                    **{name: str(values[k]) for name, values in each.logged.items()},
                    "image": image,
                }
            )
    return rows


def write_completions(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table whole or not at all."""
    with whole_file(path) as aside:
        pq.write_table(pa.Table.from_pylist(rows), aside)


def sampled_rounds(folder: Path, num_prompts: int = 6) -> tuple[Round, ...]:
    """The first and the last table of a run for its report, `num_prompts` prompts of each, best completions first."""
    written = sorted((folder / "completions").glob("completions_*.parquet"))
    return tuple(_round(path, num_prompts) for path in dict.fromkeys([*written[:1], *written[-1:]]))


def _round(path: Path, num_prompts: int) -> Round:
    # a prompt can come up twice in a round: completions to the same one stand together all the same
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(path).to_pylist():
        by_prompt.setdefault(row["row"], []).append(row)
    chosen = list(by_prompt.values())[:num_prompts]
    return Round(step=chosen[0][0]["step"], samples=tuple(_sample(rows) for rows in chosen))


def _sample(rows: list[dict[str, Any]]) -> Sample:
    """One prompt; completions that were given several times stand once, with their number."""
    times = Counter((row["reward"], row["completion"]) for row in rows)
    image = rows[0]["image"]
    return Sample(
        image=image["bytes"] if image else None,
        question=rows[0]["prompt"],
        truth="",
        answers=tuple(
            Answer(model=f"{reward:.2f}" + (f" × {count}" if count > 1 else ""), text=text)
            for (reward, text), count in sorted(times.items(), key=lambda one: -one[0][0])
        ),
    )


def _thumbnail(image: Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()
