"""How evenly the rows of a step are shared out: `python -m benchmarks.balance [--lengths FILE.json] [--measure]`.

The idle share of a step is 1 − mean / max over processes of the tokens that each computes. Computed for rows whose
lengths are drawn log-normal (σ 0.8: the longest of a thousand is some twelve times the median) around 600 tokens of
image and prompt, or for lengths that are given. `--measure` runs two processes on this machine and takes their
seconds of computing instead of tokens.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from sightline.training.datasets import StepBatches


def skewed_lengths(count: int, seed: int = 0) -> list[int]:
    """Tokens of prompts with an image, and answers of very uneven length."""
    draw = random.Random(seed)
    return [600 + int(draw.lognormvariate(5.5, 0.8)) for _ in range(count)]


def idle_share(lengths: Sequence[int], *, world: int, rows_each: int, balanced: bool) -> float:
    """Over one pass: time that processes wait for the slowest, as a share of all their time."""
    costs = list(lengths) if balanced else None
    ranks = [
        list(StepBatches(len(lengths), rows_each * world, seed=0, rank=rank, world=world, costs=costs))
        for rank in range(world)
    ]
    loads = [[sum(lengths[row] for row in rows) for rows in steps] for steps in zip(*ranks, strict=True)]
    worked, waited_for = sum(sum(step) for step in loads), sum(world * max(step) for step in loads)
    return 1 - worked / waited_for


def measured_idle_share(lengths: Sequence[int], *, rows_each: int, balanced: bool) -> float:
    """The same for two processes that compute: a layer over as many tokens as their rows have, step by step."""
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    children = [
        context.Process(target=_work, args=(rank, list(lengths), rows_each, balanced, queue)) for rank in range(2)
    ]
    for child in children:
        child.start()
    seconds = dict(queue.get() for _ in children)
    for child in children:
        child.join()
    steps = list(zip(seconds[0], seconds[1], strict=True))
    return 1 - sum(a + b for a, b in steps) / sum(2 * max(a, b) for a, b in steps)


def _work(rank: int, lengths: list[int], rows_each: int, balanced: bool, queue: object) -> None:
    torch.set_num_threads(1)
    layer = torch.nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
    costs = list(lengths) if balanced else None
    seconds = []
    for rows in StepBatches(len(lengths), rows_each * 2, seed=0, rank=rank, world=2, costs=costs):
        started = time.thread_time()  # this process's own time, whatever else the machine does
        for row in rows:
            layer(torch.zeros(1, lengths[row], 128)).sum().backward()
        seconds.append(time.thread_time() - started)
    queue.put((rank, seconds))  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    """Print a table, a line a number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=Path, help="JSON list of tokens of each row, instead of drawn ones")
    parser.add_argument("--rows", type=int, default=16, help="rows a step and process [16]")
    parser.add_argument("--measure", action="store_true", help="two processes that compute, besides")
    given = parser.parse_args()
    lengths = json.loads(given.lengths.read_text()) if given.lengths else skewed_lengths(8192)
    print(f"{len(lengths):,} rows, {min(lengths):,} to {max(lengths):,} tokens; {given.rows} rows a step and process")
    print("| processes | idle, in order | idle, balanced |\n|---|---|---|")
    for world in (2, 4, 8, 16, 32, 64):
        plain, even = (
            idle_share(lengths, world=world, rows_each=given.rows, balanced=balanced) for balanced in (False, True)
        )
        print(f"| {world} | {plain:.1%} | {even:.1%} |")
    if given.measure:
        some = lengths[:256]
        plain, even = (measured_idle_share(some, rows_each=given.rows, balanced=b) for b in (False, True))
        print(f"| 2, measured over {len(some)} rows | {plain:.1%} | {even:.1%} |")


if __name__ == "__main__":
    main()
