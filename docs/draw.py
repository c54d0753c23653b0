"""Draws the figures of the docs: `python docs/draw.py`, a part of `make docs`. What they show comes from the code."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

from sightline.layout import prefix
from sightline.layout.visibility import visible
from sightline.objectives.apo import apo_zero_loss
from sightline.objectives.dpo import dpo_loss
from sightline.objectives.hinge import hinge_loss
from sightline.objectives.sppo import sppo_hard_loss
from sightline.types import Group

mpl.rcParams.update({"svg.hashsalt": "sightline", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})

IMAGES = Path(__file__).parent / "images"
COLORS = {"image": "#8d6cab", "prompt": "#4c78a8", "chosen": "#54a24b", "rejected": "#e45756"}
IMAGE, PROMPT, CHOSEN, REJECTED = 6, 10, 5, 4
"""Tokens of the toy group; the prompt's include the image's."""


def layout() -> None:
    """What both layouts compute for one pair, and the attention mask of the shared row."""
    figure, (rows, grid) = plt.subplots(1, 2, figsize=(9.4, 3.9), width_ratios=[1.35, 1])
    strips = [
        ("chosen", ["chosen"]), ("rejected", ["rejected"]), ("chosen, reference", ["chosen"]),
        ("rejected, reference", ["rejected"]),
    ]  # fmt: skip
    for place, (name, responses) in enumerate(strips):
        _strip(rows, 6.6 - place, responses, name)
    _strip(rows, 1.2, ["chosen", "rejected"], "policy")
    _strip(rows, 0.2, ["chosen", "rejected"], "reference", image=False)
    separate, shared = _tokens(strips), 2 * (PROMPT + CHOSEN + REJECTED - 2)
    rows.text(0, 7.8, f"one sequence per response: 4 × the image, {separate} tokens", weight="bold")
    rows.text(0, 2.3, f"shared prefix: 1 × the image, {shared} tokens", weight="bold")
    rows.set(xlim=(-7.5, PROMPT + CHOSEN + REJECTED + 0.5), ylim=(-0.4, 8.4))
    rows.axis("off")
    _visibility(grid)
    figure.tight_layout()
    _save(figure, "layout")


def _tokens(strips: list[tuple[str, list[str]]]) -> int:
    lengths = {"chosen": CHOSEN, "rejected": REJECTED}
    return sum(PROMPT + sum(lengths[response] - 1 for response in responses) for _, responses in strips)


def _strip(axes: plt.Axes, y: float, responses: list[str], name: str, *, image: bool = True) -> None:
    """One row of the grid as boxes. Without `image` its features come from the row above."""
    parts = [("image", IMAGE), ("prompt", PROMPT - IMAGE)]
    parts += [(response, (CHOSEN if response == "chosen" else REJECTED) - 1) for response in responses]
    x = 0.0
    for part, length in parts:
        for _ in range(length):
            filled = image or part != "image"
            face = COLORS[part] if filled else "white"
            axes.add_patch(plt.Rectangle((x + 0.06, y - 0.35), 0.88, 0.7, facecolor=face, edgecolor=COLORS[part]))
            x += 1
    axes.text(-0.3, y, name, ha="right", va="center")


def _visibility(axes: plt.Axes) -> None:
    """The attention mask, from the code that makes it."""
    group = Group(
        id="toy",
        prompt_ids=torch.zeros(PROMPT, dtype=torch.long),
        responses=(torch.zeros(CHOSEN, dtype=torch.long), torch.zeros(REJECTED, dtype=torch.long)),
        weights=(torch.ones(CHOSEN), torch.ones(REJECTED)),
        positions=torch.arange(PROMPT),
        next_position=PROMPT,
        block=torch.full((PROMPT,), -1),
    )
    batch = prefix.lay_out([group])
    mask = visible(batch)[0].numpy()
    kind = np.array(["prompt", "chosen", "rejected"])[batch.segment[0].numpy()]
    kind[:IMAGE] = "image"
    colors = np.ones((*mask.shape, 3))
    for query, row in enumerate(mask):
        for key, seen in enumerate(row):
            if seen:
                colors[query, key] = mpl.colors.to_rgb(COLORS[kind[key]])
    axes.imshow(colors)
    axes.set_xticks(np.arange(-0.5, len(kind)), [])
    axes.set_yticks(np.arange(-0.5, len(kind)), [])
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.tick_params(length=0)
    middle = {name: float(np.flatnonzero(kind == name).mean()) for name in COLORS}
    for name, place in middle.items():
        axes.text(place, -0.9, name, ha="center", va="bottom", rotation=35, color=COLORS[name])
        axes.text(-0.9, place, name, ha="right", va="center", color=COLORS[name])
    axes.set_title("row: token · column: what it attends to", y=1.14, fontsize=9)


def pair_losses() -> None:
    """Four losses over pairs by the margin of log-ratios; only the rejected response's log-prob changes."""
    margin = torch.linspace(-40, 80, 241)
    zero = torch.zeros_like(margin)
    losses = {
        "dpo": dpo_loss(zero, -margin, zero, zero, beta=0.1),
        "hinge": hinge_loss(zero, -margin, zero, zero, beta=0.1),
        "sppo_hard / 50": sppo_hard_loss(zero, -margin, zero, zero, beta=0.1) / 50,
        "apo_zero": apo_zero_loss(zero, -margin, zero, zero, beta=0.1),
    }
    figure, axes = plt.subplots(figsize=(6.4, 3))
    for name, values in losses.items():
        axes.plot(margin, values, label=name)
    axes.axvline(0, color="#bbbbbb", linewidth=0.8)
    axes.set(xlabel="Δ, nats: how far the rejected log-prob has fallen (β = 0.1)", ylabel="loss", ylim=(-0.2, 5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    _save(figure, "pair_losses")


def _save(figure: plt.Figure, name: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    layout()
    pair_losses()
