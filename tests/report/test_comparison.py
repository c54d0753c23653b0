"""The comparison page: what differs is marked, and what is shown is what was said."""

import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.evaluation import toy
from tests.report.test_html import Checker

from sightline.evaluation.record import Record, record
from sightline.evaluation.task import Published
from sightline.report.comparison import Piece, section, thumbnail, word_difference, write_comparison


def answers(right: int) -> list[Record]:
    task = toy.task()
    said = {True: {"yes": "Yes", "no": "No"}, False: {"yes": "No", "no": "Yes"}}
    return [record(task, item, said[i < right][item.truth]) for i, item in enumerate(task.items)]


def test_words_are_compared_with_the_first_model_s() -> None:
    base = "A red circle and a blue square."
    assert word_difference(base, base) == (Piece(base, "", False),)
    assert word_difference("A red circle.", base, hallucinated=("red circle",)) == (
        Piece("A", "", False),
        Piece("red circle.", "", True),
        Piece("and a blue square.", "gone", False),
    )
    assert word_difference("a red ring", "A red circle", hallucinated=("ring",)) == (
        Piece("a red", "", False),
        Piece("circle", "gone", False),
        Piece("ring", "new", True),
    )
    assert word_difference("", base) == (Piece(base, "gone", False),)
    assert word_difference("two dogs and a fox", "a dog and one blue fox")[-4:] == (
        Piece("and", "", False),
        Piece("one blue", "gone", False),
        Piece("a", "new", False),
        Piece("fox", "", False),
    )


def test_long_answers_are_compared_in_a_moment() -> None:
    draw = random.Random(0)
    words = [f"{name}{number}" for name in ("dog", "fox", "cup") for number in range(10)]
    texts = [" ".join(draw.choices(words, k=20_000)) for _ in "ab"]
    started = time.process_time()
    pieces = word_difference(*texts, hallucinated=("dog1", "fox2"))
    assert time.process_time() - started < 3, "0.24 s of CPU were measured; aligning all of them takes 6.1"
    said = {change: [w for p in pieces if p.change == change for w in p.text.split()] for change in ("", "new", "gone")}
    assert sorted(said[""] + said["new"]) == sorted(texts[0].split()), "every word once"
    assert sorted(said["new"]) == sorted((Counter(texts[0].split()) - Counter(texts[1].split())).elements())
    assert sorted(said["gone"]) == sorted((Counter(texts[1].split()) - Counter(texts[0].split())).elements())


def test_the_page_shows_every_image_once_with_all_its_questions(tmp_path: Path) -> None:
    found = section(toy.task(), {"base": answers(3), "tuned": answers(8)})
    assert [len(card.questions) for card in found.cards] == [3, 3, 3]
    assert found.cards[1].questions[0].cells[0].right is False
    assert found.cards[1].questions[0].cells[1].right is True
    path = tmp_path / "page.html"
    write_comparison(path, [found], ["base", "tuned"], "Two & more")
    text = path.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.addresses) == 3 and all(a.startswith("data:image/png") for a in checker.addresses)
    assert "http" not in text and "Two &amp; more" in text
    assert text.count('data-right="01"') == 5
    assert list(tmp_path.iterdir()) == [path]


def test_rows_from_papers_stand_below_the_models(tmp_path: Path) -> None:
    paper = Published(label="A model (a paper)", scores={"tolerant_accuracy": 88.5})
    found = section(replace(toy.task(), published=(paper,)), {"base": answers(3)})
    assert [row.kind for row in found.rows] == ["model", "baseline", "published"]
    path = tmp_path / "page.html"
    write_comparison(path, [found], ["base"], "x")
    assert "A model (a paper)" in path.read_text() and "88.5" in path.read_text()
    assert "published, not measured here" in path.read_text()


def test_a_long_list_keeps_the_questions_that_the_models_differ_on() -> None:
    found = section(toy.task(), {"base": answers(3), "tuned": answers(8)}, show=5)
    shown = [question for card in found.cards for question in card.questions]
    assert (found.num_shown, found.total) == (5, 9)
    assert all(question.cells[0].right != question.cells[1].right for question in shown)
    assert found.comparisons[0].test.only_b == 5, "the figures are of all questions"


def test_thumbnails_keep_small_images_and_shrink_large_ones() -> None:
    small, large = toy.image(0), toy.image(1, size=(900, 300))
    assert thumbnail(small).startswith(b"\x89PNG")
    data = thumbnail(large)
    assert data.startswith(b"\xff\xd8\xff") and len(data) < 40_000
    assert large.size == (900, 300)
