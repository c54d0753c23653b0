"""What a model is trained on, by templates and messages that public reports name: nothing is lost, nothing is added."""

import re

import pytest

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.formats import parse
from sightline.data.render.render import Renderer
from sightline.errors import ModelError, RecipeError
from sightline.models.processor import set_options
from tests.data.processors import CHATML, byte_tokenizer, llava

TURN = "{{'<|im_start|>' + m['role'] + '\n'}}"
PARTS = "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{c['text']}}{% endif %}{% endfor %}"
END = "{{'<|im_end|>\n'}}"
TAIL = "{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}{% endif %}"
LOOP = "{% for m in messages %}BODY{% endfor %}" + TAIL
TEMPLATES = {
    "whole": CHATML.replace("IMAGE", "<image>"),
    "trims": LOOP.replace("BODY", TURN + PARTS.replace("c['text']", "c['text'] | trim") + END),
    "drops thoughts": LOOP.replace(
        "BODY", TURN + PARTS.replace("c['text']", "c['text'].split('</think>')[-1].lstrip('\n')") + END
    ),
    "no system": LOOP.replace("BODY", "{% if m['role'] != 'system' %}" + TURN + PARTS + END + "{% endif %}"),
    "first text": LOOP.replace(
        "BODY", TURN + "{{ (m['content'] | selectattr('type', 'equalto', 'text') | first)['text'] }}" + END
    ).replace("BODY", ""),
    "two roles": LOOP.replace(
        "BODY", "{% if m['role'] in ('user', 'assistant') %}" + TURN + PARTS + END + "{% endif %}"
    ),
    "escapes": LOOP.replace("BODY", TURN + PARTS.replace("c['text']", "c['text'] | e") + END),
    "capitals": LOOP.replace("BODY", TURN + PARTS.replace("c['text']", "c['text'] | upper") + END),
    "system last": (
        "{% for m in messages %}{% if m['role'] != 'system' %}" + TURN
        + "{% if loop.last or (loop.index == loop.length - 1 and not add_generation_prompt) %}"
        + "{% for s in messages if s['role'] == 'system' %}{{ s['content'][0]['text'] + ' ' }}{% endfor %}{% endif %}"
        + PARTS + END + "{% endif %}{% endfor %}" + TAIL
    ),
}  # fmt: skip
"""First text: images are left out where a row has none, so that the template is taken."""


def rendered(row: dict, template: str = "whole"):
    """The group, and the tokenizer."""
    text = TEMPLATES[template]
    if template == "first text":
        text = text.replace("{{ (m", "{% for c in m['content'] if c['type'] == 'image' %}<image>{% endfor %}{{ (m")
    processor = llava(template=text)
    example = parse(row, source="rows", row_number=0)
    check_example(example, len(example.responses))
    return Renderer(processor).group(example), processor.tokenizer


def targets(row: dict, template: str = "whole") -> list[str]:
    """What of each response is trained."""
    group, tokenizer = rendered(row, template)
    both = zip(group.responses, group.weights, strict=True)
    return [tokenizer.decode(ids[weights > 0]) for ids, weights in both]


def thought(chosen: str, rejected: str) -> dict:
    return {"prompt": "Which?", "chosen": f"<think>\n{chosen}\n</think>\n\nRed.", "rejected": f"<think>\n{rejected}"}


SYSTEM = [{"role": "system", "content": "One word."}, {"role": "user", "content": "Which?"}]
TWO_TEXTS = [{"type": "text", "text": "The first half,"}, {"type": "text", "text": " the second."}]
TOOL = [
    {"role": "user", "content": "Which?"},
    {"role": "assistant", "content": "I look."},
    {"role": "tool", "content": "It is dark."},
    {"role": "assistant", "content": "Black."},
]


@pytest.mark.parametrize(
    ("report", "template", "row", "text"),
    [
        ("TRL #6363", "drops thoughts", thought("All is red.", "Green."), "assistant's text"),
        ("ms-swift #4939", "drops thoughts",
         {"messages": [*SYSTEM[1:], {"role": "assistant", "content": "<think>x</think>y"}]},
         "assistant's text '<think>x</think>y'"),
        ("", "no system", {"prompt": SYSTEM, "chosen": "Red.", "rejected": "Green."}, "system's text 'One word.'"),
        ("", "first text", {"prompt": [{"role": "user", "content": TWO_TEXTS}], "completion": "A"},
         "user's text 'the second.'"),
        ("ms-swift #7184", "two roles", {"messages": TOOL}, "tool's text 'It is dark.'"),
        ("", "two roles", {"prompt": TOOL[:3], "chosen": "Black.", "rejected": "Red."}, "tool's text 'It is dark.'"),
        ("", "escapes", {"question": "Is 1 < 2?", "answer": "Yes"}, "user's text 'Is 1 < 2[?]'"),
    ],
)  # fmt: skip
def test_a_template_that_loses_a_text_is_named(report, template, row, text):
    with pytest.raises(RowError, match=f"leaves out or changes the {text}") as caught:
        rendered(row, template)
    assert caught.value.defect == "template changes the text"


def test_a_template_that_changes_every_text_is_no_template():
    with pytest.raises(ModelError, match=r"writes the answer 'probe' as .*PROBE"):
        rendered({"question": "Which?", "answer": "Red."}, "capitals")


def test_two_sides_that_are_the_same_tokens_are_a_pair_of_equals():
    row = {"prompt": "Which?", "chosen": "Red. ", "rejected": "Red.\n\n Blue."}
    assert len(targets(row, "trims")) == 2
    said = [
        {"role": "assistant", "content": [{"type": "text", "text": t} for t in texts]}
        for texts in (["a", " b"], ["a", "b"])
    ]
    with pytest.raises(RowError, match="same 3 tokens") as caught:
        rendered({"prompt": "Which?", "chosen": said[:1], "rejected": said[1:]}, "trims")
    assert caught.value.defect == "chosen equals rejected"


@pytest.mark.parametrize("template", ["whole", "trims", "system last"])
def test_templates_that_trim_or_move_a_turn_are_taken(template):
    row = {"messages": [*SYSTEM, {"role": "assistant", "content": " Red. \n"}]}
    group, tokenizer = rendered(row, template)
    assert "One word." in tokenizer.decode(group.prompt_ids)
    assert "Red." in tokenizer.decode(group.responses[0])


LOOK = [
    {"role": "user", "content": "Which?"},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "No."},
    {"role": "assistant", "content": "Red."},
]


@pytest.mark.parametrize(
    ("report", "key", "value"),
    [
        ("axolotl #1702", "train", False),
        ("OpenAI's fine-tuning", "weight", 0),
        ("ms-swift #5793", "loss", False),
        ("verl #5472", "loss_mask", 0),
        ("UI-TARS #77", "trainable", False),
    ],
)
def test_a_turn_that_is_not_to_be_trained_is_context(report, key, value):
    marked = [*LOOK[:1], {**LOOK[1], key: value}, LOOK[2], {**LOOK[3], key: 1 if key != "train" else True}]
    assert targets({"messages": LOOK}) == ["Blue.<|im_end|>Red.<|im_end|>"]
    assert targets({"messages": marked}) == ["Red.<|im_end|>"]
    sharegpt = [{"from": m["role"], "value": m["content"], **{k: v for k, v in m.items() if k == key}} for m in marked]
    assert targets({"conversations": sharegpt}) == ["Red.<|im_end|>"]


def test_a_turn_may_weigh_less_than_another():
    row = {"messages": [*LOOK[:1], {**LOOK[1], "weight": 0.25}, *LOOK[2:]]}
    group, tokenizer = rendered(row)
    assert tokenizer.decode(group.responses[0][group.weights[0] == 0.25]) == "Blue.<|im_end|>"


def test_the_header_of_a_second_turn_is_no_target():
    says = [{"role": "assistant", "content": text} for text in ("Let me look.", "Red.")]
    row = {"messages": [{"role": "user", "content": "Which?"}, *says]}
    assert targets(row) == ["Let me look.<|im_end|>Red.<|im_end|>"]
    group, tokenizer = rendered(row)
    assert tokenizer.decode(group.responses[0][group.weights[0] == 0]) == "\n<|im_start|>assistant\n"


BOXES = ("<|box_start|>", "<|box_end|>")
GROUNDED = {"question": "Where?", "answer": "<|box_start|>(12,8)<|box_end|>"}


def test_grounding_tokens_are_refused_until_the_recipe_allows_them():
    """LLaMA-Factory #9279, ms-swift #910, UI-TARS #77."""
    processor = llava(byte_tokenizer("<image>", *BOXES), template=TEMPLATES["whole"])
    example = parse(GROUNDED, source="rows", row_number=0)
    with pytest.raises(RowError, match=r"'<\|box_start\|>'.*list it in data.allow_tokens"):
        Renderer(processor).group(example)
    group = Renderer(processor, allow_tokens=BOXES).group(example)
    first, *_, last, _ = group.responses[0].tolist()
    assert [first, last] == processor.tokenizer.convert_tokens_to_ids(list(BOXES))
    assert Renderer(processor).fingerprint != Renderer(processor, allow_tokens=BOXES).fingerprint


@pytest.mark.parametrize(
    ("token", "why"),
    [("<|im_end|>", "begins or ends turns"), ("<image>", "stands for images"), ("<ref>", "is no token of this model")],
)
def test_tokens_that_cannot_be_allowed_are_refused(token, why):
    with pytest.raises(RecipeError, match=f"data.allow_tokens: '{re.escape(token)}' .*{why}"):
        Renderer(llava(), allow_tokens=[token])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shortest_edge": "512*28"}, "a number, as 56 is; it is '512[*]28'. YAML works nothing out"),
        ({"shortest_edge": True}, "a number"),
        ({"do_resize": "no"}, "true or false, as True is; it is 'no'"),
        ({"rescale_factor": float("inf")}, "a number"),
        ({"shortest_edge": 84}, None),
    ],
)
def test_a_processors_option_of_another_kind_is_named(options, said):
    if said is None:
        return set_options(llava(), options)
    with pytest.raises(ModelError, match=rf"model.processor.{next(iter(options))}` should be {said}"):
        set_options(llava(), options)
