"""The comparison page's filters and marks in a real browser, wide and narrow."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.browser import needs_chromium, opened
from tests.evaluation import toy

from sightline.evaluation.record import record
from sightline.evaluation.task import Task
from sightline.report.comparison import Section, section, write_comparison

pytestmark = needs_chromium


def scattered(task: Task, right: str) -> list:
    """Answers that are right where the text has a 1."""
    said = {"1": {"yes": "Yes", "no": "No"}, "0": {"yes": "No", "no": "Yes, a dog"}}
    return [record(task, item, said[r][item.truth]) for item, r in zip(task.items, right, strict=True)]


@pytest.fixture(scope="module")
def compared() -> Section:
    task = toy.task()
    items = [replace(item, groups=(f"place: {item.groups[0]} number", "all kinds")) for item in task.items]
    task = replace(task, items=items, marks=lambda item, answer: ("dog",))
    answers = {"base": "110010010", "dpo": "101011110", "grpo": "000000001"}
    return section(task, {label: scattered(task, right) for label, right in answers.items()})


@pytest.fixture(scope="module")
def shown(compared: Section, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    write_comparison(path, [compared], ["base", "dpo", "grpo"], "Three models on the same questions")
    with opened(path.as_uri()) as (page, asked):
        yield page, asked


def visible(page: Any, **controls: str) -> list[str]:
    """What the page shows with these controls set and all others as they are when it opens."""
    page.reload()
    for name, wanted in controls.items():
        if name == "find":
            page.fill("#find", wanted)
        else:
            page.select_option(f"#{name}", label=wanted)
    found = page.locator(".question:visible .ask").all_inner_texts()
    assert page.locator("#count").inner_text() == f"{len(found)} shown"
    with_questions = page.locator(".image:has(.question:visible)").count()
    assert page.locator(".image:visible").count() == with_questions, "an image without questions stays"
    return [text.split("truth")[0].strip() for text in found]


def expected(compared: Section, fits: Any) -> list[str]:
    return [q.text for card in compared.cards for q in card.questions if fits(q, [cell.right for cell in q.cells])]


def test_filters_show_what_they_say(compared: Section, shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    assert visible(page) == expected(compared, lambda q, right: True)
    outcomes = {
        "A right, B wrong": lambda a, b: a and not b,
        "A wrong, B right": lambda a, b: b and not a,
        "both wrong": lambda a, b: not a and not b,
        "both right": lambda a, b: a and b,
        "different answers": lambda a, b: a != b,
    }
    for label, fits in outcomes.items():
        found = visible(page, outcome=label)
        assert found == expected(compared, lambda q, right, fits=fits: fits(right[0], right[1]))
        assert 0 < len(found) < 9
        others = visible(page, a="grpo", b="dpo", outcome=label)
        assert others == expected(compared, lambda q, right, fits=fits: fits(right[2], right[1]))
    odd = visible(page, group="place: odd number")
    assert odd == expected(compared, lambda q, right: "place: odd number" in q.groups) and len(odd) == 3
    assert len(visible(page, find="lazy FOX")) == 3
    both = visible(page, outcome="A wrong, B right", group="place: even number")
    assert both == expected(compared, lambda q, right: right[:2] == [False, True] and "place: even number" in q.groups)
    assert both != []


def test_a_new_hallucinated_word_shows_both_marks_and_gone_words_can_be_seen(shown: tuple[Any, list[str]]) -> None:
    page, _ = shown
    page.reload()
    both = page.locator("ins mark").first
    assert both.inner_text() == "dog"
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).boxShadow]"
    only_marked = page.locator(".said > mark").first.evaluate(style)
    only_new = page.locator(".said > ins:not(:has(mark))").first.evaluate(style)
    found = both.evaluate(style)
    assert found[0] == only_marked[0] != "rgba(0, 0, 0, 0)", "the ground of a hallucinated word"
    assert only_new[1] in found[1] and only_new[1] != "none", "the line under a new word"
    gone = page.locator("del").first
    assert not gone.is_visible()
    page.check("#gone")
    assert gone.is_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_stands_out_of_the_window_and_nobody_is_asked(shown: tuple[Any, list[str]], width: int) -> None:
    page, asked = shown
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").first.evaluate("e => e.naturalWidth") == 56
    elsewhere = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert asked and elsewhere == []
