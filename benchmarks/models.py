"""Every image-text-to-text type of transformers, built small and compared: the table of docs/models.md.

make models                                      # all types, writes the table; 6 min on a core, no GPU, no network
python -m benchmarks.models glm4v llava          # some, printed only
python -m benchmarks.models --write glm4v llava  # some, and their rows in the table
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import transformers as hf

from sightline.rehearsal.every_type import TYPES, Row, prove

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- written by `make models`: -->\n", "<!-- until here -->\n"


def table(lines: list[str]) -> str:
    """The lines as Markdown, headed by how many there are of each layout."""
    counts = Counter(one.split("|")[2].strip() for one in lines)
    said = ", ".join(f"{count} {layout}" for layout, count in counts.most_common())
    head = [
        f"Of {len(lines)} types of transformers {hf.__version__}: {said}.",
        "",
        "| type | layout | why | processor |",
    ]
    return "\n".join([*head, "|---|---|---|---|", *lines]) + "\n"


def line(row: Row) -> str:
    """One row of the table. It holds no figures that differ from machine to machine."""
    return f"| {row.model_type} | {row.layout} | {row.reason.replace('|', '¦')} | {row.processor} |"


def written() -> dict[str, str]:
    """The lines of the table in the page, by type."""
    between = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    return {one.split("|")[1].strip(): one for one in between.splitlines() if one.startswith("|")}


def main(arguments: list[str]) -> None:
    types = [one for one in arguments if one != "--write"]
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    rows = []
    for model_type in types or TYPES:
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            rows.append(prove(model_type, Path(folder) / "model"))
        row, seconds = rows[-1], time.process_time() - started
        figures = f"{row.difference:.0e} {row.gradient:.0e} {seconds:4.1f} s"
        print(f"{model_type:24} {row.layout:14} {row.processor:9} {figures} {row.reason}", flush=True)
    if types and "--write" not in arguments:
        return
    lines = (written() if types else {}) | {row.model_type: line(row) for row in rows}
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(
        before + BEGIN + table([lines[name] for name in TYPES]) + END + rest.split(END)[1], encoding="utf-8"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
