"""The report as one HTML file that needs nothing else: no script, no font, no request; images are data URIs."""

import re
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup, escape

from sightline.files import page, write_text
from sightline.report.contents import Report


def write_report(path: Path, report: Report) -> None:
    """Render `report` to `path`. The file appears whole or not at all."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """The page as a string."""
    return page("sightline.report", "report.html.j2", FILTERS, report=report)


def marked(text: str, phrases: Iterable[str]) -> Markup:
    """`text` escaped, every whole-word occurrence of a phrase in <mark>, whatever its case; longer phrases first."""
    wanted = sorted({p for p in phrases if p}, key=len, reverse=True)
    if not wanted:
        return escape(text)
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, wanted)) + r")(?!\w)", re.IGNORECASE)
    pieces = pattern.split(text)
    # split with one group alternates: text, phrase, text, …
    return Markup("").join(Markup("<mark>{}</mark>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces))


def p_value(p: float) -> str:
    """A p-value as papers print it."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}" if p < 0.01 else f"p = {p:.2f}"


def seconds(duration: float) -> str:
    """Seconds as 4.2 s, 48 s or 3 min 20 s."""
    if duration < 10:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def figure(percent: float) -> str:
    """A percentage to one decimal."""
    return f"{percent:.1f}"


def place(percent: float) -> str:
    """A percentage as a CSS length inside a track of 0 to 100."""
    return f"{min(100.0, max(0.0, percent)):.2f}%"


FILTERS = {f.__name__: f for f in (marked, p_value, seconds, figure, place)}
"""What the templates of this package call, beside `data_uri`."""
