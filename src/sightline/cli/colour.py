"""Colours for help pages: flags and headings stand out in a terminal, and nowhere else (https://no-color.org)."""

import os
import re
import sys

BOLD, CYAN, PLAIN = "\033[1m", "\033[36m", "\033[0m"
HEADING = re.compile(r"^(?:usage:|[a-z ]+:$|[A-Z]{2,}.*$)", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w.-]*")


def paint(page: str) -> str:
    """The page with colours where standard output is a terminal that wants them, else as it is."""
    if not wanted():
        return page
    page = FLAG.sub(lambda found: f"{CYAN}{found[0]}{PLAIN}", page)
    return HEADING.sub(lambda found: f"{BOLD}{found[0].replace(PLAIN, PLAIN + BOLD)}{PLAIN}", page)


def wanted() -> bool:
    """FORCE_COLOR asks for colours anywhere, NO_COLOR for none."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")
