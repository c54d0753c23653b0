"""The report page: it holds everything it shows, and says what it was told, no more."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from sightline.evaluation.statistics import McNemar
from sightline.files import data_uri, page
from sightline.report.contents import Answer, Change, Column, Comparison, Contrast, ModelRow, Report, Sample
from sightline.report.curves import Series, curves_of
from sightline.report.html import FILTERS, marked, p_value, render, seconds, write_report
from sightline.scoring.interval import Interval


def image() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def full_report() -> Report:
    columns = (Column(key="hal", label="Hal", better="lower", explanation="captions with a hallucination"),)
    base = ModelRow(label="Base", scores={"hal": Interval(46.3, 43.2, 49.4)})
    tuned = ModelRow(label="DPO", scores={"hal": Interval(0.1, 0.0, 0.6)})
    always_no = ModelRow(label="Always “No”", scores={}, kind="baseline")
    said = Answer(model="Base", text="a dog & a <cat>", hallucinated=("dog",), omitted=("red square",))
    sample = Sample(image=image(), question="What is <this>?", truth="a cat", answers=(said,))
    curves = tuple(curves_of({"loss": Series([1, 2], [1.0, 0.5])}))
    return Report(
        title="A run & its evidence",
        headline="Hallucinations fell.",
        changes=(Change(label="Hal", before=base.scores["hal"], after=tuned.scores["hal"], better="lower"),),
        columns=columns,
        rows=(base, tuned, always_no),
        comparisons=(Comparison(a="Base", b="DPO", on="questions", test=McNemar(3, 40, 1e-9), smallest=0.6),),
        samples=(sample,),
        curves=curves,
        contrast=Contrast(
            title="Too eager", text=("It collapsed.",), columns=columns, rows=(base,), curves=curves, samples=(sample,)
        ),
        recipe="objective:\n  type: dpo",
        timings={"train": 70.0, "evaluate": 9.96},
        versions={"torch": "2.13.0"},
        notes=("Seed 42.",),
    )


class Checker(HTMLParser):
    """Collects addresses and checks that every element is closed in order."""

    VOID = frozenset({"meta", "img", "source", "br", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nothing_of_the_network() -> None:
    text = render(full_report())
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.tags.isdisjoint({"script", "link", "iframe"})
    assert all(address.startswith("data:image/") for address in checker.addresses)
    assert len(checker.addresses) == 6  # two charts in two themes, two images
    assert not re.search(r"https?://|url\(|@import", text)


def test_it_says_what_it_was_told() -> None:
    text = render(full_report())
    for said in (
        "46.3",
        "43.2 – 49.4",
        "40 right only for DPO",
        "p &lt; 0.0001",
        "1 min 20 s",
        "Too eager",
        "red square",
    ):
        assert said in text, said


def test_text_is_escaped_and_hallucinated_words_are_marked() -> None:
    text = render(full_report())
    assert "a <mark>dog</mark> &amp; a &lt;cat&gt;" in text
    assert "What is &lt;this&gt;?" in text


def test_empty_parts_leave_no_headings() -> None:
    text = render(Report(title="Bare", headline="Nothing yet."))
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["How this was made"]
    assert "<table" not in text


def test_writing_replaces_the_file_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, full_report())
    assert path.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]
    broken = replace(full_report(), samples=(Sample(image=b"GARBAGE", question="", truth="", answers=()),))
    before = path.read_text()
    with pytest.raises(ValueError, match="GARBAGE"):
        write_report(path, broken)
    assert path.read_text() == before


def test_an_undefined_name_is_an_error_not_a_hole_in_the_page() -> None:
    with pytest.raises(UndefinedError):
        page("sightline.report", "report.html.j2", FILTERS)


@pytest.mark.parametrize(
    ("text", "phrases", "expected"),
    [
        ("A Red square.", ["red square", "red"], "A <mark>Red square</mark>."),
        ("category cat", ["cat"], "category <mark>cat</mark>"),
        ("nothing", [], "nothing"),
        ("a (b)", ["(b)"], "a <mark>(b)</mark>"),
    ],
)
def test_marking_takes_whole_words_and_the_longest_phrase(text: str, phrases: list[str], expected: str) -> None:
    assert marked(text, phrases) == expected


def test_small_formats() -> None:
    assert data_uri(image()).startswith("data:image/png;base64,iVBOR")
    assert [p_value(p) for p in (1e-9, 0.0042, 0.31)] == ["p < 0.0001", "p = 0.0042", "p = 0.31"]
    assert [seconds(s) for s in (4.21, 48.4, 200.0)] == ["4.2 s", "48 s", "3 min 20 s"]
