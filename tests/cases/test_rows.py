"""Rows as public reports have them: each is read as its author meant it, or its defect is named."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.cases.cases import Case, outcome, paint, rows_in

DIFFER = "images differ from placeholders"
MEDIA = "media not read"
DISAGREE = "columns disagree"
WRONG = "column has the wrong type"


def chat(question: Any, answer: Any = "Red.", *, images: Iterable[str] = ("red.png",), **columns: Any) -> dict:
    """A conversation of one question."""
    says = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": says, "images": list(images), **columns}


def qa(question: Any = "Which?", answer: Any = "Red.", **more: Any) -> dict:
    """A question in a column."""
    return {"image": "red.png", "question": question, "answer": answer, **more}


def pair(**more) -> dict:
    """A pair in columns."""
    return {"image": "red.png", "question": "Which?", "chosen": "Red.", "rejected": "Green.", **more}


def shared(*turns, **more) -> dict:
    """A ShareGPT conversation."""
    froms = ("human", "gpt")
    return {"conversations": [{"from": froms[i % 2], "value": text} for i, text in enumerate(turns)], **more}


def turned(**answer: Any) -> dict:
    """A conversation whose answer has further keys."""
    return {"messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", **answer}]}


TWO = ("red.png", "green.png")
READ = "user: {red}Which? -> Red."
PAIR = "user: {red}Which? -> Red. -> Green."
TEXT_ROW = (qa("1 + 1?", "2", image=None), "user: 1 + 1? -> 2")

TAGS = [
    Case(
        "late tags",
        "LLaMA-Factory #7157",
        [(chat("1 + 1?", "2", images=()), "user: 1 + 1? -> 2")] * 70 + [(chat("<image>\nWhich?"), READ)],
    ),
    Case(
        "one bad row among good ones",
        "LLaMA-Factory #5329",
        [(chat("<image>\nWhich?"), READ), (chat("<image><image>\nWhich?"), DIFFER), (chat("<image>\nWhich?"), READ)],
    ),
    Case("one row without a tag", "ms-swift #2354", [(chat("<image>\nWhich?"), READ), (chat("Which?"), READ)]),
    Case(
        "tags inside a sentence",
        "ms-swift #2017",
        [
            (chat("1: <image> or 2: <image> - which?", images=TWO), "user: 1: {red} or 2: {green} - which? -> Red."),
            (chat("In <image> which?"), "user: In {red} which? -> Red."),
            (qa("In <image> which?"), "user: In {red} which? -> Red."),
        ],
    ),
    Case(
        "tags in text parts",
        "ms-swift #2354",
        [(chat([{"type": "text", "text": "<image>\nWhich?"}]), READ), (chat([{"text": "Which?"}]), READ)],
    ),
    Case(
        "tags that no image fits",
        "",
        [
            (chat([{"type": "image"}, {"type": "text", "text": "<image>Which?"}]), DIFFER),
            (chat("<image>\nWhich?", images=()), DIFFER),
        ],
    ),
    Case(
        "tags in an answer are text where the prompt places all images",
        "",
        [
            (chat("<image>Which?", "The <image> is red."), "user: {red}Which? -> The <image> is red."),
            (chat("What is <b>?", "An <image>.", images=()), "user: What is <b>? -> An <image>."),
        ],
    ),
    Case(
        "tags as text, by the recipe",
        "",
        [(qa("What does <image> mean?"), "user: {red}What does <image> mean? -> Red.")],
        {"format": "columns"},
    ),
    Case(
        "numbered tags",
        "MMMU #70, evalscope #1754",
        [
            (qa(f"{two} or {one}?", image=TWO), "user: {green} or {red}? -> Red.")
            for one, two in [
                ("<image 1>", "<image 2>"),
                ("<image1>", "<image2>"),
                ("<image_1>", "<image_2>"),
                ("<image_0>", "<image_1>"),
                ("<|image_1|>", "<|image_2|>"),
            ]
        ],
    ),
    Case(
        "numbered tags that no image fits",
        "InternVL #429",
        [(qa(text, image=TWO), DIFFER) for text in ("<image 2>?", "<image 1>, <image 3>?", "<image 1> <image>?")],
    ),
    Case("an image that is called twice", "", [(qa("<image 1> = <image 1>?"), "user: {red} = {red}? -> Red.")]),
    Case(
        "image parts with an index",
        "Idefics' data",
        [
            (
                chat([{"type": "image", "index": 1}, {"type": "text", "text": " or "}, {"type": "image", "index": 0}],
                     images=TWO),
                "user: {green} or {red} -> Red.",
            )
        ],
    ),
    Case(
        "InternVL's several images",
        "InternVL's docs",
        [(chat("Image-1: <image>\nImage-2: <image>\nWhich?", images=TWO),
          "user: Image-1: {red}Image-2: {green}Which? -> Red.")],
    ),
    Case(
        "other spellings of a tag",
        "InternLM-XComposer, Phi-3",
        [
            (chat(f"{tag}Which?"), READ)
            for tag in ("<ImageHere>", "<Image>\n", "<image_placeholder>", "<|image|>")
        ],
    ),
    Case(
        "a format that comes late",
        "",
        [*[TEXT_ROW] * 70, (shared("<image>Which?", "Red.", image="red.png"), READ)],
    ),
]  # fmt: skip

IMAGES = [
    Case(
        "images in the turn",
        "ms-swift #5201",
        [
            ({"messages": [{"role": "user", "content": "Which?", "images": ["red.png"]},
                           {"role": "assistant", "content": "Red."}]}, READ),
            ({"messages": [{"role": "user", "content": "<image>Which?", "image": "red.png"},
                           {"role": "assistant", "content": "Red."}]}, READ),
            ({"conversations": [{"from": "human", "value": "<image><image>", "images": ["red.png"]},
                                {"from": "gpt", "value": "Red."}]}, DIFFER),
        ],
    ),
    Case(
        "images in numbered columns",
        "MMMU #70",
        [
            (qa(image=None, image_1="red.png", image_2="green.png", image_10="blue.png"),
             "user: {red}{green}{blue}Which? -> Red."),
            (qa("<image 2>, <image 1>", image=None, image_1="red.png", image_2="green.png", image_3=None),
             "user: {green}, {red} -> Red."),
            (qa("<image 3>, <image 1>", image=None, image_1="red.png", image_3="green.png"),
             "user: {green}, {red} -> Red."),
            (qa("Which is <image 1>?", image=None, image_1="red.png", image_2="green.png"), DIFFER),
        ],
    ),
    Case("an empty list beside a filled column", "Megatron-Bridge #5729", [(pair(images=[]), PAIR)]),
    Case(
        "two columns of images",
        "",
        [
            (pair(images=["green.png"]), DISAGREE),
            (pair(images=["red.png", "green.png"]), "user: {red}{green}Which? -> Red. -> Green."),
            (pair(image_path="red.png"), PAIR),
            (pair(image_path="./red.png"), PAIR),
            (pair(image_path="/far/away/green.png"), PAIR),
            (pair(image_1="green.png"), DISAGREE),
        ],
    ),
    Case(
        "null in a list of images, an empty path",
        "",
        [
            (pair(image=["red.png", None]), "image missing"),
            (pair(image=[None]), "image missing"),
            (pair(image=""), "image missing"),
        ],
    ),
    Case(
        "images under another name",
        "diffusers #3674, datasets #6777",
        [
            (pair(image=None, file_name="red.png"), PAIR),
            (pair(image=None, jpg="red.png"), PAIR),
            (pair(image=None, **{"left.png": "red.png", "right.png": "green.png"}),
             "user: {red}{green}Which? -> Red. -> Green."),
            (pair(image=None, picture="red.png"), MEDIA),
            (pair(image=None, url="a/b.jpg?x=1"), MEDIA),
            (pair(image=None, meta={"shots": [{"path": "red.png"}]}), MEDIA),
            (pair(depth="green.png"), MEDIA),
            (pair(mask_image="none.png"), MEDIA),
            (pair(source="red.png"), PAIR),
            (pair(coco_url="https://x.org/000.jpg"), PAIR),
        ],
    ),
    Case(
        "a column that the recipe names",
        "",
        [(pair(image=None, picture="red.png"), PAIR)],
        {"columns": {"image": "picture"}},
    ),
    Case(
        "columns that are to be left alone",
        "",
        [(pair(depth="green.png", video="a.mp4", tools="[{}]"), PAIR)],
        {"ignore_columns": ["depth", "video", "tools"]},
    ),
    Case(
        "images of the rejected side",
        "ms-swift #7314",
        [(pair(rejected_images=["green.png"]), MEDIA), (pair(rejected_images=[]), PAIR)],
    ),
    Case(
        "images in answers",
        "ms-swift #3888, LLaMA-Factory #7675",
        [
            ({**shared("Draw."), "images": list(TWO), "chosen": {"from": "gpt", "value": "A: <image>"},
              "rejected": {"from": "gpt", "value": "B: <image>"}}, DIFFER),
            (chat("Draw.", "<image>"), DIFFER),
            (chat("<image>Draw.", "<image>", images=TWO), DIFFER),
            (chat("Draw.", [{"type": "image"}]), DIFFER),
        ],
    ),
    Case(
        "video",
        "LLaMA-Factory #6223, #9195",
        [
            (pair(image=None, video="clip.mp4"), MEDIA),
            (pair(image=None, videos=["v_abc123"]), MEDIA),
            (pair(clip={"bytes": None, "path": "a.webm"}), MEDIA),
            (chat("<video>What?", images=(), videos=["clip.mp4"]), MEDIA),
            (chat([{"type": "video", "video": "clip.mp4"}], images=()), MEDIA),
            (shared("<video>\nWhat?", "A dog.", video="a.mp4"), MEDIA),
            ({"messages": [{"role": "user", "content": "What?", "videos": ["a.mp4"]},
                           {"role": "assistant", "content": "A dog."}]}, MEDIA),
            (pair(video=None), PAIR),
            (chat("How does <video> work?", images=()), "user: How does <video> work? -> Red."),
        ],
    ),
    Case(
        "sound",
        "VideoLLaMA2 #84",
        [(chat("<audio>What?", images=(), audios=["a.wav"]), MEDIA), (pair(speech="a.flac", image=None), MEDIA)],
    ),
]  # fmt: skip

ANSWERS = [
    Case(
        "a label beside the response",
        "",
        [
            (qa(answer=None, response="Red.", label="easy"), READ),
            (qa(answer=None, completion="Red.", label="easy"), READ),
            (qa(answer=None, label=["Red.", "Crimson."]), READ),
            (qa(answer=None, label=True), WRONG),
        ],
    ),
    Case(
        "two columns for the answer",
        "",
        [(qa(response="It is red."), DISAGREE), (qa(response="Red."), READ), (qa(response=""), READ)],
    ),
    Case(
        "labels of unpaired preferences",
        "TRL #7045",
        [
            ({"image": "red.png", "prompt": "Which?", "completion": "Red.", "label": label}, READ + sign)
            for sign, labels in {
                " +": [True, 1, 1.0, "true", "True", "1", "good", "desirable"],
                " -": [False, 0, 0.0, -1, "false", "0", "-1", "bad", "undesirable"],
            }.items()
            for label in labels
        ],
    ),
    Case(
        "labels that are none",
        "",
        [
            ({"image": "red.png", "prompt": "Which?", "completion": "Red.", "label": None}, WRONG),
            ({"image": "red.png", "prompt": "Which?", "completion": "Red.", "label": 3}, READ),
            ({"image": "red.png", "prompt": "Which?", "completion": "Red.", "label": "easy"}, READ),
            (pair(label=3), PAIR),
        ],
    ),
    Case(
        "labels of unpaired preferences that a recipe asks for",
        "",
        [
            ({"prompt": "Which?", "completion": "Red.", "label": "easy"}, WRONG),
            ({"prompt": "Which?", "completion": "Red."}, WRONG),
            ({"prompt": "Which?", "completion": "Red.", "label": 1}, "user: Which? -> Red. +"),
        ],
        {"format": "kto"},
    ),
    Case(
        "labels of LLaMA-Factory",
        "",
        [
            (shared("Which?", "Red.", kto_tag=1), "user: Which? -> Red. +"),
            (shared("Which?", "Red.", kto_tag="false"), "user: Which? -> Red. -"),
            (shared("Which?", "Red.", kto_tag=None), WRONG),
            ({"instruction": "Which?", "output": "Red.", "kto_tag": 0}, "user: Which? -> Red. -"),
        ],
    ),
    Case(
        "lists of numbers, booleans, no numbers",
        "Qwen3-VL #1188",
        [
            (qa(answer=[12, 8, 50, 40]), WRONG),
            (qa(answer=[[12, 8], [50, 40]]), WRONG),
            (pair(chosen=[12, 8, 50, 40]), WRONG),
            (pair(chosen=True, rejected=False), WRONG),
            (qa(answer=True), WRONG),
            (qa(answer=14), "user: {red}Which? -> 14"),
            (qa(answer=["Red.", "Crimson."]), READ),
            (qa(answer=float("nan")), WRONG),
            (qa(answer=float("inf")), WRONG),
        ],
    ),
    Case(
        "answers that are JSON",
        "LLaMA-Factory #6135",
        [
            (
                {**shared("Where?"), "chosen": '{"box": [1, 2]}', "rejected": "[0, 0, 9, 9]"},
                'user: Where? -> {"box": [1, 2]} -> [0, 0, 9, 9]',
            ),
            (shared("Where?", '{"box": [1, 2]}'), 'user: Where? -> {"box": [1, 2]}'),
            (pair(chosen="[12, 8]", rejected="[0, 0]"), "user: {red}Which? -> [12, 8] -> [0, 0]"),
        ],
    ),
    Case(
        "messages that are JSON in text",
        "",
        [
            (
                {
                    "images": ["red.png"],
                    "prompt": '[{"role": "user", "content": "<image>Which?"}]',
                    "chosen": '[{"role": "assistant", "content": "Red."}]',
                    "rejected": '{"role": "assistant", "content": "Green."}',
                },
                PAIR,
            ),
            ({"messages": '[{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Red."}]'},
             "user: Which? -> Red."),
        ],
    ),
    Case(
        "choices that the question does not show",
        "ScienceQA, MMMU, VLMEvalKit's tables",
        [
            (qa(answer=1, choices=["green", "red", "blue"]), "choices not shown"),
            (qa(answer="B", options="['green', 'red']"), "choices not shown"),
            (qa(answer="B", A="green", B="red"), "choices not shown"),
            (qa("Which? A. green B. red", "B", options=["green", "red"]), "user: {red}Which? A. green B. red -> B"),
            (qa(answer="red", choices=["green", "red"]), "user: {red}Which? -> red"),
        ],
    ),
    Case(
        "pairs of ms-swift",
        "ms-swift #7314",
        [
            (chat("<image>Which?", rejected_response="Green."), PAIR),
            ({"query": "Which?", "response": "Red.", "rejected_response": "Green.", "images": ["red.png"]}, PAIR),
        ],
    ),
]  # fmt: skip

TURNS = [
    Case(
        "system and history in columns",
        "ms-swift's query, response, history, system",
        [
            (row, "system: One word. | user: {red}Which? -> Red.")
            for row in (
                qa(system="One word."),
                chat("<image>Which?", system="One word."),
                shared("<image>Which?", "Red.", image="red.png", system="One word."),
                {"instruction": "<image>Which?", "output": "Red.", "images": ["red.png"], "system": "One word."},
                {"prompt": "USER: <image>\nWhich? ASSISTANT:", "completion": " Red.</s>", "image": "red.png",
                 "system": "One word."},
            )
        ]
        + [
            ({"query": "And?", "response": "Black.", "history": [["Which?", "Red."]], "images": ["red.png"]},
             "user: {red}Which? | assistant: Red. | user: And? -> Black."),
            (qa(history="[]", system=""), READ),
            (qa(history=[["Which?"]]), WRONG),
            (qa(system=["One word."]), WRONG),
        ],
    ),
    Case(
        "two system turns",
        "",
        [
            ({"messages": [{"role": "system", "content": "A"}, *turned(content="Red.")["messages"]], "system": "B"},
             DISAGREE),
            ({"messages": [{"role": "system", "content": "A"}, *turned(content="Red.")["messages"]], "system": "A"},
             "system: A | user: Which? -> Red."),
            ({"conversations": [{"from": "system", "value": "A"}, {"from": "human", "value": "Which?"},
                                {"from": "gpt", "value": "Red."}], "system": "B"},
             "system: A | user: Which? -> Red."),
        ],
    ),
    Case(
        "tools and reasoning",
        "TRL #6259",
        [
            (chat("Which?", images=(), tools=[{"type": "function"}]), "key not read"),
            (chat("Which?", images=(), tools="[]"), "user: Which? -> Red."),
            (turned(content=None, tool_calls=[{"type": "function"}]), "key not read"),
            (turned(content="I look.", tool_calls=[{"type": "function"}]), "key not read"),
            (turned(content="Red.", reasoning_content="All is red."), "key not read"),
            (turned(content="Red.", thinking="All is red."), "key not read"),
            (turned(content="Red.", reasoning_content=None, tool_calls=[], name="x"), "user: Which? -> Red."),
            (shared("Which?", "Red.", tools='[{"name": "zoom"}]'), "key not read"),
            (chat("<image>Find <ref-object>", "<bbox>", objects={"bbox": [[1, 2, 3, 4]]}), "key not read"),
        ],
    ),
    Case(
        "turns that are not to be trained",
        "axolotl #1702, UI-TARS #77, verl #5472",
        [
            (turned(content="Red.", weight=0), "response empty"),
            (turned(content="Red.", weight=2.5), "user: Which? -> Red.(2.5)"),
            (turned(content="Red.", loss_mask=[0, 1]), WRONG),
            (turned(content="Red.", loss="no"), WRONG),
            (turned(content="Red.", train=True, weight=0), DISAGREE),
            (turned(content="Red.", is_masked=False), "key not read"),
        ],
    ),
    Case(
        "empty turns",
        "",
        [
            ({"messages": [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": empty},
                           {"role": "user", "content": "Well?"}, {"role": "assistant", "content": "Red."}]},
             "response empty")
            for empty in ("", "  ", None, [])
        ],
    ),
    Case(
        "roles by other names",
        "",
        [
            ({"messages": [{"role": "User", "content": "Which?"}, {"role": "Assistant", "content": "Red."}]},
             "user: Which? -> Red."),
            ({"messages": [{"role": "human", "content": "Which?"}, {"role": "narrator", "content": "Red."}]}, WRONG),
        ],
    ),
    Case(
        "rows that are rendered already",
        "",
        [
            ({"prompt": "<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>tool\nIt is dark.<|im_end|>\n"
                        "<|im_start|>assistant\n", "completion": "Red.<|im_end|>"},
             "user: Which? -> It is dark. | Red."),
            ({"prompt": "USER: <image>\nThe sign says \"ASSISTANT: push\". What? ASSISTANT:", "image": "red.png",
              "completion": " Push.</s>"}, 'user: {red}The sign says "ASSISTANT: push". What? -> Push.'),
            ({"prompt": "USER: It says ASSISTANT: push. What? ASSISTANT:", "completion": " Push.</s>"},
             "row unreadable"),
            ({"prompt": "A chat of a person with a helper. USER: <image>\nWhich? ASSISTANT:", "image": "red.png",
              "completion": " Red.</s>"}, "system: A chat of a person with a helper. | user: {red}Which? -> Red."),
            ({"prompt": "<|im_start|>user\nWhich?<|im_end|>\nlost words\n<|im_start|>assistant\n",
              "completion": "Red.<|im_end|>"}, "row unreadable"),
            (qa("In a play: USER: hi. Who speaks?"), "user: {red}In a play: USER: hi. Who speaks? -> Red."),
        ],
    ),
]  # fmt: skip

CASES = TAGS + IMAGES + ANSWERS + TURNS


@pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
def test_rows_are_read_as_they_are_meant_or_named(tmp_path, case):
    rows = rows_in(paint(tmp_path), case)
    assert [outcome(rows, index) for index in range(len(rows))] == [right for _, right in case.rows]
