"""Rows as users have them become examples."""

import json

import numpy as np
import pytest
from PIL import Image

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.formats import parse, recognise, recognise_source
from sightline.data.sources.load import rows_of
from sightline.types import Example

PHOTO = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
IMAGE, QUESTION = {"type": "image"}, {"type": "text", "text": "What?"}


def read(row: dict, format: str = "auto") -> Example:
    return parse(row, format=format, source="rows.jsonl", row_number=4)


def turns(messages) -> list[tuple[str, str]]:
    """(role, text with images as §)."""
    return [(m["role"], "".join("§" if p["type"] == "image" else p["text"] for p in m["content"])) for m in messages]


def pair(example: Example) -> tuple[list, str, str]:
    check_example(example, 2)
    return turns(example.prompt), example.responses[0].text, example.responses[1].text


EXPECTED = ([("user", "§What?")], "yes", "no")
PAIR = {"chosen": "yes", "rejected": "no"}
SAY = {name: [{"role": "assistant", "content": name}] for name in ("yes", "no")}
SHOWN = {"images": ["a.png"]}
SAID = {"chosen": SAY["yes"], "rejected": SAY["no"]}
DIFFER, WRONG = "images differ from placeholders", "column has the wrong type"


@pytest.mark.parametrize(
    "row",
    [
        {"image": PHOTO, "question": "What?", **PAIR},
        {"images": [PHOTO], "question": "What?", **PAIR, "idx": 3},
        {"images": [PHOTO], "prompt": "What?", **PAIR},
        {"images": [PHOTO], "prompt": [{"role": "user", "content": "What?"}], **SAID},
        {"images": [PHOTO], "prompt": "What?", **SAID},
        {"image": PHOTO, "prompt": [{"role": "user", "content": [IMAGE, QUESTION]}], **PAIR},
        {
            "images": [{"bytes": b"", "path": None}],
            "prompt": [{"role": "user", "content": [{**IMAGE, "text": None}, {**QUESTION, "image": None}]}],
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "yes"}]}],
            "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "no"}]}],
        },
        {"prompt": [{"role": "user", "content": [{"type": "image", "image": PHOTO}, QUESTION]}], **PAIR},
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


def test_trl_hurt_5_an_implicit_prompt_is_what_both_sides_begin_with():
    start = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "So?"},
    ]
    example = read({"chosen": start + SAY["yes"], "rejected": start + SAY["no"], "images": [PHOTO]})
    assert pair(example) == ([("user", "§What?"), ("assistant", "?"), ("user", "So?")], "yes", "no")


def test_an_implicit_prompt_with_a_image_part_counts_it_once():
    start = [{"role": "user", "content": [IMAGE, QUESTION]}]
    assert pair(read({"chosen": start + SAY["yes"], "rejected": start + SAY["no"], "image": PHOTO})) == EXPECTED


def test_a_prompt_repeated_in_chosen_and_rejected_is_taken_once():
    start = [{"role": "user", "content": "What?"}]
    row = {"prompt": "What?", "chosen": start + SAY["yes"], "rejected": start + SAY["no"], "image": PHOTO}
    assert pair(read(row)) == EXPECTED


def test_several_images_stand_where_their_parts_stand():
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
        "image": PHOTO,
    }
    assert turns(read({**row, **PAIR}).prompt) == [
        ("system", "Be brief."),
        ("user", "§What?"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"image": PHOTO, "query": "What?", "label": ["yes", "yeah"]},
        {"image": PHOTO, "question": "What?", "answer": "yes"},
        {"image": PHOTO, "messages": [{"role": "user", "content": "What?"}, *SAY["yes"]]},
        {"image": PHOTO, "prompt": [{"role": "user", "content": "What?"}], "completion": SAY["yes"]},
        {"image": PHOTO, "prompt": "What?", "completion": "yes"},
    ],
)
def test_demonstrations_read_the_same(row):
    example = read(row)
    check_example(example, 1)
    assert (turns(example.prompt), example.responses[0].text) == EXPECTED[:2]


def test_numbers_are_answers_too():
    assert read({"image": PHOTO, "question": "How many?", "answer": 14}).responses[0].text == "14"


def test_accepted_answers_stay_for_rewards():
    assert read({"image": PHOTO, "query": "What?", "label": ["yes", "yeah"], "id": 3}).row == {
        "label": ["yes", "yeah"],
        "id": 3,
    }


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [{"role": "user", "content": "What?"}]},
        {"question": "What?"},
        {"problem": "What?"},
        {"messages": [{"role": "user", "content": "What?"}]},
    ],
)
def test_prompts_alone_have_no_response(row):
    example = read({**row, "image": PHOTO, "solution": "4"})
    check_example(example, 0)
    assert turns(example.prompt) == EXPECTED[0] and example.row == {"solution": "4"}


def test_the_image_tag_is_text_in_columns_and_conversations():
    row = {"image": PHOTO, "question": "<image> What?", **PAIR}
    assert turns(read(row, "columns").prompt) == [("user", "§<image> What?")]
    row = {"image": PHOTO, "prompt": [{"role": "user", "content": "<image> What?"}], **SAID}
    assert turns(read(row, "conversational").prompt) == [("user", "§<image> What?")]


def test_whether_a_tag_is_one_is_decided_for_each_row():
    plain = {"image": PHOTO, "question": "What?", **PAIR}
    tagged = {"image": PHOTO, "question": "<image>\nWhat?", **PAIR}
    assert recognise_source([plain] * 5 + [tagged]) == "columns, mmpr"
    assert recognise({**plain, "question": "What does <image> mean?"}) == "mmpr"
    rows = rows_of([plain] * 70 + [tagged])
    assert turns(rows.example(70).prompt) == turns(rows.example(0).prompt) == [("user", "§What?")]


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
        ({"prompt": [{"role": "user", "content": [{"type": "video"}]}], **PAIR}, "media not read"),
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


def test_a_response_with_a_image_is_refused():
    with pytest.raises(RowError, match="images belong to the prompt"):
        read(
            {
                "prompt": "What?",
                "chosen": [{"role": "assistant", "content": [IMAGE]}],
                "rejected": "no",
                "image": PHOTO,
            }
        )


RLHF_V = {
    "conversations": [{"from": "human", "value": "<image>What?"}],
    "chosen": {"from": "gpt", "value": "yes"},
    "rejected": {"from": "gpt", "value": "no"},
    "images": [{"bytes": b"x", "path": None}],
}
RENDERED = {
    "idefics": ("User:<image>What?<end_of_utterance>\n", "Assistant: {}<end_of_utterance>\n"),
    "idefics, prompted": ("User:<image>What?<end_of_utterance>\nAssistant:", " {}<end_of_utterance>\n"),
    "smolvlm": ("<|im_start|>User:<image>What?<end_of_utterance>\nAssistant:", " {}<end_of_utterance>"),
    "qwen": (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n<|im_start|>assistant\n",
        "{}<|im_end|>\n",
    ),
    "llama": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>What?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "{}<|eot_id|>",
    ),
    "gemma": (
        "<bos><start_of_turn>user\n<start_of_image>What?<end_of_turn>\n<start_of_turn>model\n",
        "{}<end_of_turn>",
    ),
    "llava": ("USER: <image>\nWhat? ASSISTANT:", " {}</s>"),
}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("sharegpt", RLHF_V),
        ("sharegpt", {**RLHF_V, "chosen": json.dumps(RLHF_V["chosen"]), "rejected": json.dumps([RLHF_V["rejected"]])}),
        ("sharegpt", {**RLHF_V, **PAIR}),
        ("sharegpt", {**RLHF_V, "conversations": [{"from": "human", "value": "What?"}]}),
        ("sharegpt", {**RLHF_V, "conversations": json.dumps(RLHF_V["conversations"])}),
        ("openai", {"prompt": [{"role": "user", "content": "<image>\nWhat?"}], **SAID, "images": ["a.png"]}),
        ("alpaca", {"instruction": "<image>", "input": "What?", "images": ["a.png"], **PAIR}),
        ("alpaca", {"instruction": "What?", "input": "", "images": "a.png", "output": ["yes", "no"]}),
        ("mmpr", {"image": "a.png", "question": "<image>\nWhat?", **PAIR}),
        *(
            ("rendered", {"images": ["a.png"], "prompt": p, "chosen": a.format("yes"), "rejected": a.format("no")})
            for p, a in RENDERED.values()
        ),
    ],
)
def test_every_pair_format_reads_the_same(name, row):
    assert recognise(row) == name
    assert pair(read(row)) == EXPECTED
    assert pair(read(row, name)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("sharegpt", {"conversations": [*RLHF_V["conversations"], RLHF_V["chosen"]], "image": "a.png"}),
        ("openai", {"messages": [{"role": "user", "content": "<image>What?"}, *SAY["yes"]], "images": ["a.png"]}),
        ("alpaca", {"instruction": "<image>What?", "input": None, "output": "yes", "images": ["a.png"]}),
        ("rendered", {"text": "USER: <image>\nWhat? ASSISTANT: yes</s>", "image": "a.png"}),
        ("columns", {"question": "What?", "answer": "yes", "label": False, "image": "a.png"}),
        ("openai", {"messages": [{"role": "user", "content": "<image>What?"}, *SAY["yes"]], "images": ["a.png"],
                    "label": True}),
        ("kto", {"prompt": "What?", "completion": "yes", "label": True, "image": "a.png"}),
        ("kto", {"prompt": [{"role": "user", "content": "What?"}], "completion": "yes", "label": False, **SHOWN}),
    ],
)  # fmt: skip
def test_every_demonstration_format_reads_the_same(name, row):
    assert recognise(row) == name
    example = read(row)
    check_example(example, 1)
    assert (turns(example.prompt), example.responses[0].text) == EXPECTED[:2]
    assert example.responses[0].label == row.get("label")


def test_images_anywhere_in_a_sharegpt_conversation():
    says = ["<image>\nFirst, <image> second", "a cup", "and <image>?", "a spoon"]
    value = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(says)]
    example = read({"conversations": value, "system": "Be brief.", "images": ["a.png", "b.png", "c.png"]})
    assert turns(example.prompt) == [
        ("system", "Be brief."), ("user", "§First, § second"), ("assistant", "a cup"), ("user", "and §?"),
    ]  # fmt: skip
    assert example.responses[0].text == "a spoon"


def test_an_alpaca_history_comes_before_the_question():
    row = {"instruction": "What?", "output": "yes", "history": [["Hello", "Hi"]], "images": ["a.png"]}
    assert turns(read(row).prompt) == [("user", "§Hello"), ("assistant", "Hi"), ("user", "What?")]


def test_a_number_of_tags_that_differs_from_the_images_is_named():
    for row in ({**RLHF_V, "images": ["a", "b"]}, {"instruction": "<image><image>", "output": "x", "image": "a.png"}):
        with pytest.raises(RowError, match=DIFFER):
            read(row)


def test_rendered_rows_with_several_turns_and_a_system_turn():
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    text += "<|im_start|>assistant\nYes?<|im_end|>\n"
    row = {"prompt": text + "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n", "completion": "It.<|im_end|>"}
    example = read(row)
    assert [role for role, _ in turns(example.prompt)] == ["system", "user", "assistant", "user"]
    assert example.responses[0].text == "It."


def test_the_format_is_recognised_and_can_be_forced():
    assert recognise({"question": "What?", "chosen": "a"}) == "columns"
    assert recognise({"messages": [{"role": "user", "content": "x"}]}) == "conversational"
    row = {"prompt": "What?", **SAID, "image": PHOTO}
    assert pair(read(row, format="conversational")) == EXPECTED


def test_labels_and_columns_called_like_ours_stay_with_the_row():
    labelled = read({"question": "What?", "answer": "a", "label": True, "role": "x", "row": 1, "columns": [2]})
    assert labelled.responses[0].label is True
    assert labelled.row == {"answer": "a", "label": True, "role": "x", "row": 1, "columns": [2]}
    pair = read({"question": "What?", "prompt": "mine", "chosen": "a", "rejected": "b", "label": True})
    assert [response.label for response in pair.responses] == [None, None]
    assert pair.row == {"prompt": "mine", "label": True}
    turn = [{"role": "user", "content": "What?"}]
    conversation = read({"prompt": turn, "messages": "mine", "chosen": "a", "rejected": "b"})
    assert conversation.prompt == pair.prompt and conversation.row == {"messages": "mine"}
    rendered = read({"prompt": "USER: What? ASSISTANT:", "text": "mine", "chosen": " a", "rejected": " b"})
    assert rendered.prompt == pair.prompt and rendered.row == {"text": "mine"}


@pytest.mark.parametrize(
    "row",
    [
        {"question": "What?", "label": True},
        {"question": "What?", "answer": {"value": 3, "unit": "cm"}},
        {"question": "What?", "answer": "3 cm", "response": "4 cm"},
        {"question": "What?", "chosen": "a"},
        {"question": "What?", "chosen": ["a"], "rejected": 3},
        {"instruction": "What?", "output": [1, 2, 3]},
        {"prompt": [{"role": "user", "content": "What?"}], "chosen": "a", "rejected": "b", "label": [True]},
        {"prompt": "What?", "completion": "a", "label": False},
    ],
)
def test_of_a_prompt_no_answer_is_read_whatever_its_columns_hold(row):
    example = parse(row, source="rows", row_number=0, prompt_only=True)
    assert turns(example.prompt) == [("user", "What?")] and example.responses == ()
    asked = next(name for name in ("question", "instruction", "prompt") if name in row)
    assert example.row == {name: value for name, value in row.items() if name != asked}
