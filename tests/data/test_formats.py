"""Rows as users have them become examples."""

import numpy as np
import pytest
from PIL import Image

from sightline.data.check import check_example
from sightline.data.defects import RowError
from sightline.data.formats import parse, recognise
from sightline.types import Example

PICTURE = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
IMAGE, QUESTION = {"type": "image"}, {"type": "text", "text": "What?"}


def read(row: dict, format: str = "auto") -> Example:
    return parse(row, format=format, source="rows.jsonl", row_number=4)


def turns(messages) -> list[tuple[str, str]]:
    """(role, text with pictures as §)."""
    return [(m["role"], "".join("§" if p["type"] == "image" else p["text"] for p in m["content"])) for m in messages]


def pair(example: Example) -> tuple[list, str, str]:
    check_example(example, 2)
    return turns(example.prompt), example.responses[0].text, example.responses[1].text


EXPECTED = ([("user", "§What?")], "yes", "no")
PAIR = {"chosen": "yes", "rejected": "no"}
SAY = {name: [{"role": "assistant", "content": name}] for name in ("yes", "no")}
SAID = {"chosen": SAY["yes"], "rejected": SAY["no"]}
DIFFER, WRONG = "pictures differ from placeholders", "column has the wrong type"


@pytest.mark.parametrize(
    "row",
    [
        {"image": PICTURE, "question": "What?", **PAIR},
        {"images": [PICTURE], "question": "What?", **PAIR, "idx": 3},
        {"images": [PICTURE], "prompt": "What?", **PAIR},
        {"images": [PICTURE], "prompt": [{"role": "user", "content": "What?"}], **SAID},
        {"images": [PICTURE], "prompt": "What?", **SAID},
        {"image": PICTURE, "prompt": [{"role": "user", "content": [IMAGE, QUESTION]}], **PAIR},
        {
            "images": [{"bytes": b"", "path": None}],
            "prompt": [{"role": "user", "content": [{**IMAGE, "text": None}, {**QUESTION, "image": None}]}],
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "yes"}]}],
            "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "no"}]}],
        },
        {"prompt": [{"role": "user", "content": [{"type": "image", "image": PICTURE}, QUESTION]}], **PAIR},
        {
            "prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}, QUESTION]}],
            "chosen": {"role": "assistant", "content": "yes"},
            "rejected": {"role": "assistant", "content": "no"},
        },
    ],
)  # fmt: skip
def test_pairs_in_columns_and_conversations_read_the_same(row):
    example = read(row)
    assert pair(example) == EXPECTED
    assert len(example.images) == 1 and example.id == "rows.jsonl:4"


def test_an_implicit_prompt_is_what_both_sides_begin_with():
    start = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "So?"},
    ]
    example = read({"chosen": start + SAY["yes"], "rejected": start + SAY["no"], "images": [PICTURE]})
    assert pair(example) == ([("user", "§What?"), ("assistant", "?"), ("user", "So?")], "yes", "no")


def test_an_implicit_prompt_with_a_picture_part_counts_it_once():
    start = [{"role": "user", "content": [IMAGE, QUESTION]}]
    assert pair(read({"chosen": start + SAY["yes"], "rejected": start + SAY["no"], "image": PICTURE})) == EXPECTED


def test_a_prompt_repeated_in_chosen_and_rejected_is_taken_once():
    start = [{"role": "user", "content": "What?"}]
    row = {"prompt": "What?", "chosen": start + SAY["yes"], "rejected": start + SAY["no"], "image": PICTURE}
    assert pair(read(row)) == EXPECTED


def test_several_pictures_stand_where_their_parts_stand():
    content = [QUESTION, IMAGE, {"type": "text", "text": "or"}, IMAGE]
    row = {
        "prompt": [{"role": "user", "content": content}],
        "images": ["a.png", "b.png"],
        "chosen": "yes",
        "rejected": "no",
    }
    example = read(row)
    assert turns(example.prompt) == [("user", "What?§or§")]
    assert [p.path.name for p in example.images] == ["a.png", "b.png"]


def test_a_system_turn_stays_in_front():
    row = {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}],
        "image": PICTURE,
    }
    assert turns(read({**row, **PAIR}).prompt) == [
        ("system", "Be brief."),
        ("user", "§What?"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"image": PICTURE, "query": "What?", "label": ["yes", "yeah"]},
        {"image": PICTURE, "question": "What?", "answer": "yes"},
        {"image": PICTURE, "messages": [{"role": "user", "content": "What?"}, *SAY["yes"]]},
        {"image": PICTURE, "prompt": [{"role": "user", "content": "What?"}], "completion": SAY["yes"]},
        {"image": PICTURE, "prompt": "What?", "completion": "yes"},
    ],
)
def test_demonstrations_read_the_same(row):
    example = read(row)
    check_example(example, 1)
    assert (turns(example.prompt), example.responses[0].text) == EXPECTED[:2]


def test_numbers_are_answers_too():
    assert read({"image": PICTURE, "question": "How many?", "answer": 14}).responses[0].text == "14"


def test_accepted_answers_stay_for_rewards():
    assert read({"image": PICTURE, "query": "What?", "label": ["yes", "yeah"], "id": 3}).extra == {
        "label": ["yes", "yeah"],
        "id": 3,
    }


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "user", "content": "What?"}]},
        {"question": "What?"},
        {"messages": [{"role": "user", "content": "What?"}]},
    ],
)
def test_prompts_alone_have_no_response(row):
    example = read({**row, "image": PICTURE, "solution": "4"})
    check_example(example, 0)
    assert turns(example.prompt) == EXPECTED[0] and example.extra == {"solution": "4"}


def test_the_image_tag_is_text_in_columns_and_conversations():
    example = read({"image": PICTURE, "question": "<image> What?", **PAIR})
    assert turns(example.prompt) == [("user", "§<image> What?")]


@pytest.mark.parametrize(
    ("row", "defect"),
    [
        ({"question": "What?", "chosen": " ", "rejected": "no"}, "response empty"),
        ({"question": "What?", "chosen": "yes", "rejected": ""}, "response empty"),
        ({"question": "What?", "chosen": "yes", "rejected": "yes "}, "chosen equals rejected"),
        ({"question": "What?", "chosen": "yes", "rejected": None}, "response missing"),
        ({"question": "What?"}, "response missing"),
        ({"question": " ", **PAIR}, "no user turn"),
        ({**PAIR, "answer": "x"}, "no user turn"),
        ({"prompt": [{"role": "system", "content": "x"}], **PAIR}, "no user turn"),
        ({"prompt": [{"role": "user", "content": [IMAGE, QUESTION]}], **PAIR}, DIFFER),
        ({"images": ["a", "b"], "prompt": [{"role": "user", "content": [IMAGE]}], **PAIR}, DIFFER),
        ({"prompt": [{"role": "user", "content": [{"type": "video"}]}], **PAIR}, WRONG),
        ({"prompt": [{"role": "user"}], **PAIR}, WRONG),
        ({"prompt": [{"role": "user", "content": "x"}], "chosen": 5, "rejected": "no"}, WRONG),
        ({"prompt": [{"role": "user", "content": "x"}], "chosen": [], "rejected": "no"}, "response missing"),
        ({"question": {"a": 1}, **PAIR}, WRONG),
        ({"question": "a\0b", **PAIR}, WRONG),
        ({"question": "\ud800", **PAIR}, WRONG),
        ({"width": 3}, "format not recognised"),
        ([1, 2], "row unreadable"),
    ],
)  # fmt: skip
def test_every_defect_has_a_name_a_row_and_a_fix(row, defect):
    with pytest.raises(RowError) as caught:
        check_example(read(row), 2)
    message = str(caught.value)
    assert caught.value.defect == defect
    assert message.startswith("rows.jsonl, row 4: ") and f"({defect}). " in message


def test_a_response_with_a_picture_is_refused():
    with pytest.raises(RowError, match="pictures belong to the prompt"):
        read(
            {
                "prompt": "What?",
                "chosen": [{"role": "assistant", "content": [IMAGE]}],
                "rejected": "no",
                "image": PICTURE,
            }
        )


def test_the_format_is_recognised_and_can_be_forced():
    assert recognise({"question": "What?", "chosen": "a"}) == "columns"
    assert recognise({"messages": [{"role": "user", "content": "x"}]}) == "conversational"
    row = {"prompt": "What?", **SAID, "image": PICTURE}
    assert pair(read(row, format="conversational")) == EXPECTED
