"""The terminal: colours for help pages, progress bars, and libraries that hold their tongue."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BOLD, CYAN, PLAIN = "\033[1m", "\033[36m", "\033[0m"
HEADING = re.compile(r"^(?:usage:|[a-z ]+:$|[A-Z]{2,}.*$)", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w.-]*")


def paint(page: str) -> str:
    """The page with colours where standard output is a terminal that wants them, else as it is."""
    if not _wants_colour():
        return page
    page = FLAG.sub(lambda found: f"{CYAN}{found[0]}{PLAIN}", page)
    return HEADING.sub(lambda found: f"{BOLD}{found[0].replace(PLAIN, PLAIN + BOLD)}{PLAIN}", page)


def _wants_colour() -> bool:
    """FORCE_COLOR asks for colours anywhere, NO_COLOR for none."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


@contextmanager
def counting(console: Any, title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the console while the block runs; yields what to call with (done, total)."""
    from sightline.training.watch.progress import bar

    with bar(console) as progress:
        task = progress.add_task(title, total=None, figures="")
        yield lambda done, total: progress.update(task, completed=done, total=total)


def quiet() -> None:
    """Silence progress bars and notices of transformers, datasets and the like; errors still come through."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # DeepSpeed sets its level anew when it is imported, and its warnings go to stdout, into --json
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)

    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
