"""A data check names every defect, and finds none in clean data."""

import io
import random
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.data.processors import llava

from examples import demo_pairs as real_pairs
from sightline.data.checks.duplicates import Duplicates
from sightline.data.checks.examine import Examiner, Facts, gives_away, normalised, scripts_of
from sightline.data.checks.glance import SAME_HASH, Glance, glance, marks, num_different_bits, show_the_same
from sightline.data.checks.report import Report, check_rows
from sightline.data.checks.shortcuts import Shortcuts
from sightline.data.defects import FIXES
from sightline.data.media.images import LazyImage
from sightline.data.render.render import Renderer
from sightline.data.rows import Entry
from sightline.data.sources.load import rows_of


def report_of(*splits: list[dict], num_processes: int = 1, **examiner: Any) -> Report:
    entries: dict[str, Iterable[Entry]] = {
        f"split {i}": rows_of(rows, source=f"set{i}").entries() for i, rows in enumerate(splits)
    }
    return check_rows(entries, Examiner(**examiner), num_processes=num_processes)


def image(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


GOOD = {"image": image(1), "question": "What is this?", "chosen": "A red cup.", "rejected": "A blue hat."}
CHAT = {"prompt": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "image": image(1)}

TWO_IMAGES = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]


@pytest.mark.parametrize(
    ("defect", "row"),
    [
        ("image missing", {**GOOD, "image": "nowhere.png"}),
        ("image undecodable", {**GOOD, "image": b"no image"}),
        ("image too small", {**GOOD, "image": image(2, (60, 9))}),
        ("image too large", {**GOOD, "image": Image.new("RGB", (9000, 3000))}),
        ("image from the network", {**GOOD, "image": "https://x.org/a.jpg"}),
        ("images differ from placeholders", {**CHAT, "prompt": TWO_IMAGES, "chosen": "a", "rejected": "b"}),
        ("response empty", {**GOOD, "chosen": ""}),
        ("chosen equals rejected", {**GOOD, "rejected": GOOD["chosen"]}),
        ("near-equal pair", {**GOOD, "rejected": "a red  cup"}),
        ("answer in the prompt", {**GOOD, "question": "It is a red cup. What is it?"}),
        ("no user turn", {"image": image(1), "question": "", "chosen": "a", "rejected": "b"} | {"image": None}),
        ("two assistant turns", {**CHAT, "chosen": "Well, a cup.", "rejected": "A hat."}),
        ("response missing", {**GOOD, "rejected": None}),
        ("column has the wrong type", {**GOOD, "question": ["x"]}),
    ],
)  # fmt: skip
def test_a_defect_is_named_with_its_row_and_its_fix(defect, row):
    found = report_of([GOOD, row]).as_json()
    assert [(d["name"], d["count"], d["rows"], d["fix"]) for d in found["defects"]] == [
        (defect, 1, ["set0:1"], FIXES[defect])
    ]
    assert found["rows"] == 2


def test_duplicate_rows_are_counted():
    other = {**GOOD, "question": "And this?"}
    defects = report_of([GOOD, other, GOOD, GOOD]).defects
    assert (defects["duplicate row"].count, defects["duplicate row"].rows) == (2, ["set0:2", "set0:3"])


def test_a_swapped_pair_contradicts():
    swapped = {**GOOD, "chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}
    assert report_of([GOOD, swapped]).defects["contradicting labels"].rows == ["set0:1"]
    assert report_of([GOOD, {**swapped, "image": image(2)}]).is_clean


def test_yes_and_no_to_the_same_question_contradict_and_two_captions_do_not():
    asked = {"image": image(1), "question": "Is it red?"}
    assert "contradicting labels" in report_of([{**asked, "answer": "Yes."}, {**asked, "answer": "no"}]).defects
    assert report_of([{**asked, "answer": "A cup."}, {**asked, "answer": "A red cup."}]).is_clean
    labelled = {"image": image(1), "prompt": "Say it.", "completion": "A cup."}
    assert "contradicting labels" in report_of([{**labelled, "label": True}, {**labelled, "label": False}]).defects


def test_a_image_in_train_and_test_is_found_after_re_encoding():
    buffer = io.BytesIO()
    image(1).resize((80, 60)).save(buffer, "JPEG", quality=60)
    test = [{**GOOD, "image": {"bytes": buffer.getvalue()}, "question": "Another?"}]
    found = report_of([GOOD, {**GOOD, "image": image(2)}], test)
    assert found.defects["image in two splits"].rows == ["set1:0"]
    assert "set0:0" in found.defects["image in two splits"].example
    assert report_of([GOOD], [{**GOOD, "image": image(2)}]).is_clean


def test_images_of_photographs_are_told_apart():
    names = sorted({name for name, *_ in real_pairs.PAIRS})
    shown = [glance(LazyImage(where="x", data=real_pairs.jpeg(name))) for name in names]
    original = [Glance((1, 1), *marks(real_pairs.photograph(name).convert("RGB"))) for name in names]
    for i, one in enumerate(shown):
        assert [show_the_same(one, other) for other in original] == [i == j for j in range(len(names))]
        assert all(num_different_bits(one.hash, o.hash) > 2 * SAME_HASH for j, o in enumerate(original) if j != i)


def test_two_drawings_on_one_background_are_two_images():
    drawings = []
    for shape in ("ellipse", "rectangle"):
        image = Image.new("RGB", (48, 48), "black")
        getattr(ImageDraw.Draw(image), shape)((18, 18, 29, 29), fill="red")
        drawings.append({**GOOD, "image": image})
    assert report_of(drawings[:1], drawings[1:]).is_clean
    assert not report_of(drawings[:1], drawings[:1]).is_clean


def pairs(count: int, chosen, rejected) -> list[dict]:
    return [{**GOOD, "question": f"{i}?", "chosen": chosen(i), "rejected": rejected(i)} for i in range(count)]


def words(number: int) -> str:
    """As many different words as asked for, none of them common."""
    return " ".join(f"w{number * 1000 + i}" for i in range(number % 7 + 3))


def test_length_bias_is_measured_and_named():
    biased = pairs(40, lambda i: words(i) + " and something more" * (i % 5 > 0), lambda i: words(i + 100)[:10])
    found = report_of(biased)
    assert "length bias" in found.defects and found.as_json()["length_only_accuracy"] > 0.8
    fair = pairs(40, lambda i: words(i), lambda i: words((i + 3) + 7 * 40))
    assert "length bias" not in report_of(fair).defects
    assert "length bias" not in report_of(biased[:10]).defects  # ten pairs prove nothing


def test_a_length_only_classifier_is_scored_by_hand():
    shortcuts = Shortcuts()
    for chosen, rejected in [(3, 1), (3, 1), (3, 1), (1, 3), (2, 2)]:
        shortcuts.add(chosen, rejected, (frozenset(), frozenset()))
    assert shortcuts.chosen_longer == 0.6 and shortcuts.length_accuracy == pytest.approx(0.7)


def test_a_word_that_gives_the_chosen_side_away_is_named():
    polite = pairs(30, lambda i: "Certainly " + words(i), lambda i: words(i + 50) + " indeed")
    found = report_of(polite)
    shown = {s["word"]: s["chosen_share"] for s in found.as_json()["one_word_shortcuts"]}
    assert shown == {"certainly": 1.0, "indeed": 0.0}
    assert "'certainly'" in found.defects["one-word shortcut"].example
    random_side = pairs(60, lambda i: words(i) + " maybe" * (i % 2), lambda i: words(i + 90) + " maybe" * (1 - i % 2))
    assert not report_of(random_side).as_json()["one_word_shortcuts"]


def test_the_hand_written_pairs_are_clean():
    found = report_of(real_pairs.rows())
    assert found.is_clean, found.as_json()["defects"]
    assert found.as_json()["images"] == 24 and found.as_json()["scripts"] == {"Latin": 24}


def test_tokens_and_what_the_processor_refuses_are_counted_with_a_renderer():
    rows = [GOOD, {**GOOD, "chosen": "Yes <|im_end|>", "question": "Another?"}]
    found = report_of(rows, renderer=Renderer(llava()))
    group = Renderer(llava()).group(rows_of(rows).example(0))
    expected = len(group.prompt_ids) + max(map(len, group.responses))
    assert found.as_json()["tokens"]["max"] == expected
    assert found.defects["control token in text"].rows == ["set0:1"]
    short = report_of([GOOD], renderer=Renderer(llava(), max_length=expected - 1))
    assert short.defects["overlong"].count == 1


def test_a_image_that_the_processor_shrinks_much_is_named():
    large = {**GOOD, "image": image(3, (900, 300))}  # this processor keeps 56 × 56
    assert report_of([large]).is_clean
    assert "image too large" in report_of([large], renderer=Renderer(llava())).defects


def test_rows_must_have_the_responses_that_the_recipe_needs():
    demonstration = {"image": image(1), "question": "What?", "answer": "A cup."}
    assert report_of([demonstration]).is_clean
    assert report_of([demonstration], num_responses=2).defects["response missing"].count == 1


def test_processes_find_what_one_process_finds():
    rows = [{**GOOD, "question": f"{i}?", "chosen": "" if i % 9 == 0 else f"Cup {i}."} for i in range(150)]
    assert report_of(rows, num_processes=2).as_json() == report_of(rows).as_json()


def test_scripts_are_told_by_letters():
    assert scripts_of("What is 这是什么?") == {"Latin", "Cjk"}
    assert scripts_of("Что это? café") == {"Cyrillic", "Latin"}
    assert scripts_of("12 + 7 = ?") == set()


def test_an_answer_counts_as_given_away_only_when_it_tells():
    assert gives_away(normalised("The sum is 42. What is the sum?"), ["42", "43"])
    assert not gives_away(normalised("Is it 42 or 43?"), ["42", "43"])
    assert not gives_away(normalised("Yes or no?"), ["yes"])
    assert not gives_away(normalised("What does the 420 mean?"), ["42", "43"])


def test_near_images_are_found_like_by_comparing_all_with_all():
    draw = random.Random(0)
    ours = {Glance((1, 1), draw.randbytes(24), bytes(432)): f"a{i}" for i in range(60)}
    theirs: dict[Glance, str] = {}
    for i, known in enumerate(list(ours)[:50]):
        flipped = int.from_bytes(known.hash, "big")
        for bit in draw.sample(range(192), i % 20):
            flipped ^= 1 << bit
        theirs[known._replace(hash=flipped.to_bytes(24, "big"))] = f"b{i}"
    seen = Duplicates()
    for split, images in (("train", ours), ("test", theirs)):
        for value, name in images.items():
            seen.add(Facts(id=name, glances=[value]), split)
    near = [(ours[o], theirs[t]) for t in theirs for o in ours if show_the_same(o, t)]
    assert sorted(seen.across_splits()) == sorted(near) and 30 < len(near) < 50


def test_every_fix_is_a_sentence():
    assert all(re.fullmatch(r"[A-Z].*\.", fix) for fix in FIXES.values())
