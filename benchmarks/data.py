"""How fast rows are checked, tokenised and found again: 83,000 rows like RLAIF-V's, each with its own 640-pixel JPEG.

    python -m benchmarks.data --folder /tmp/rows [--rows 83000] [--keep]

Prints rows a CPU second and peak memory of `sightline data check` without token counts; CPU time and size of the token
cache; how long a run on the cached set takes until its first batch of groups; and how fast one process reads the rows
as a stream (nothing tokenised), and goes on near their end. Every row's file is different (a few
hundred photographs, each copy with a comment of its own), so nothing is saved by having seen an image before. CPU
seconds, so that a busy machine does not change the figures; docs/data.md has what was measured, and where.
"""

import argparse
import io
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WORDS = ["the", "a", "red", "blue", "cup", "table", "behind", "left", "right", "person", "street", "holding", "two"]
NUM_PHOTOGRAPHS = 300
STEPS = ("check", "tokenise", "start", "stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where rows and caches are written")
    parser.add_argument("--rows", type=int, default=83_000)
    parser.add_argument("--keep", action="store_true", help="leave the rows there")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.folder)))
        return
    source = options.folder / "rows.parquet"
    if not source.is_file():
        make(source, options.rows)
    print(f"{options.rows:,} rows, {source.stat().st_size / 1e9:.2f} GB", flush=True)
    caches = {"SIGHTLINE_CACHE": str(options.folder / "cache"), "HF_DATASETS_CACHE": str(options.folder / "datasets")}
    # once in a process each, for its peak memory; `start` a second time finds everything in place
    for step in (*STEPS[:3], "start", "stream"):
        command = [sys.executable, "-m", "benchmarks.data", "--folder", str(options.folder), "--step", step]
        done = subprocess.run(command, env={**os.environ, **caches}, stdout=subprocess.PIPE, text=True, check=True)
        print(f"{step:9}", done.stdout.strip().splitlines()[-1], flush=True)
    if not options.keep:
        shutil.rmtree(options.folder)


def make(path: Path, count: int) -> None:
    """Write the rows: RLAIF-V's columns, answers of 30 to 150 words."""
    draw = random.Random(0)
    photographs = [photograph(np.random.default_rng(i)) for i in range(NUM_PHOTOGRAPHS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            *((name, pa.string()) for name in ("question", "chosen", "rejected")),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, count, 100):
            rows = [row(i, photographs[i % NUM_PHOTOGRAPHS], draw) for i in range(start, min(start + 100, count))]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def photograph(draw: np.random.Generator) -> bytes:
    """A 640 × 480 JPEG of about 75 kB: smooth colours with grain."""
    base = Image.fromarray(draw.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    grain = draw.integers(-9, 10, (480, 640, 1))
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(base) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def row(number: int, jpeg: bytes, draw: random.Random) -> dict:
    """A row whose file is its own: a JPEG comment right after the start marker."""
    comment = f"row {number}".encode()
    unique = jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
    chosen, rejected = (" ".join(draw.choices(WORDS, k=draw.randint(30, 150))) + f" {number}." for _ in range(2))
    question = f"What is shown here, and where? {number}"
    return {"image": {"bytes": unique, "path": None}, "question": question, "chosen": chosen, "rejected": rejected}


def measure(step: str, folder: Path) -> dict[str, float | int | str]:
    """One step in this process: seconds, CPU seconds, rows, peak memory."""
    import torch

    torch.set_num_threads(1)
    began, began_cpu = time.perf_counter(), time.process_time()
    found = {"check": check, "tokenise": tokenise, "start": start, "stream": stream}[step](folder)
    cpu = time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(cpu, 1), "peak_mb": round(peak)}
    if "rows" in found:
        figures["rows_per_cpu_second"] = round(found["rows"] / cpu)
    return {**figures, **found}


def check(folder: Path) -> dict:
    """`sightline data check` without token counts."""
    from sightline.config import DataConfig
    from sightline.data.checks.examine import Examiner
    from sightline.data.checks.report import check_rows
    from sightline.data.sources.load import load_rows

    rows = load_rows(DataConfig(source=str(folder / "rows.parquet")))
    report = check_rows({"train": rows.entries()}, Examiner(2))
    return {"rows": report.num_rows.total(), "defects": ", ".join(report.defects) or "none"}


def dataset(folder: Path):
    """Train and held-out groups as a recipe with `cache_tokens` and `val_size` reads them."""
    from sightline.config import DataConfig
    from sightline.data.holdout import split_by_image
    from sightline.data.render.dataset import GroupDataset
    from sightline.data.render.render import Renderer
    from sightline.data.sources.load import load_rows

    config = DataConfig(
        source=str(folder / "rows.parquet"), cache_tokens=True, cache_dir=str(folder / "cache" / "tokens")
    )
    rows = load_rows(config)
    train, _ = split_by_image(rows, 0.01, config.seed)
    return GroupDataset(rows.select(train), config, Renderer(processor()), "pairs")


def tokenise(folder: Path) -> dict:
    """The token cache, made in one process with LLaVA-1.5's image size: 576 image tokens a row."""
    groups = dataset(folder)
    assert groups.cache is not None
    size, source = groups.cache.path.stat().st_size, (folder / "rows.parquet").stat().st_size
    mean = float(groups.cache.lengths.mean())
    return {
        "rows": len(groups),
        "cache_mb": round(size / 1e6, 1),
        "cache_share": round(size / source, 5),
        "mean_tokens": mean,
    }


def start(folder: Path) -> dict:
    """From nothing to the first eight groups, everything cached."""
    groups = dataset(folder)
    first = [groups[i] for i in np.random.default_rng(0).integers(0, len(groups), 8)]
    return {"groups": len(groups), "tokens_of_first_batch": sum(group.num_tokens for group in first)}


def stream(folder: Path) -> dict:
    """One pass in the shuffled order of a run, and from a checkpoint four steps of eight rows before its end."""
    from sightline.config import DataConfig
    from sightline.data.render.render import Renderer
    from sightline.data.sources.load import streams_of
    from sightline.data.stream.stream import GroupStream

    config = DataConfig(source=str(folder / "rows.parquet"), streaming=True)

    def begin() -> GroupStream:
        stream = GroupStream(streams_of(config), config, Renderer(processor()), "pairs", seed=0)
        stream.loader(8, rank=0, num_ranks=1)
        return stream

    whole = begin()
    num_rows = pq.read_metadata(folder / "rows.parquet").num_rows
    names = [entry.name for entry in itertools.islice(whole.order(), num_rows)]
    step = num_rows // 8 - 4
    resumed = begin()
    resumed.load(json.loads(json.dumps(whole.state(step))), step)
    began = time.process_time()
    following = next(resumed.order()).name
    assert following == names[8 * step] and len(set(names)) == num_rows
    return {"rows": num_rows, "resume_cpu_seconds": round(time.process_time() - began, 2)}


def processor():
    """LLaVA-1.5's image processing with a small tokenizer trained here."""
    from tests.data.processors import CHATML, byte_tokenizer
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    return LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
        byte_tokenizer("<image>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )


if __name__ == "__main__":
    main()
