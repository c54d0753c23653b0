"""Examples become groups: what the model reads, what it is trained on, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.processors import CHATML, byte_tokenizer, idefics3, llava, llava_1_5, paligemma

from sightline.data.defects import RowError
from sightline.data.formats import parse
from sightline.data.render.render import Renderer
from sightline.errors import ModelError
from sightline.types import Example, Response

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))
ROW = {"image": IMAGE, "question": "What is shown?", "chosen": "A cup of coffee.", "rejected": "A red spoon, no cup."}
CHAT_PROCESSORS = {"llava": llava, "llava_1_5": llava_1_5, "idefics3": idefics3}


def example(**row: object) -> Example:
    return parse({**ROW, **row}, source="rows", row_number=7)


@pytest.fixture(scope="module", params=CHAT_PROCESSORS)
def processor(request):
    return CHAT_PROCESSORS[request.param]()


def own_tokens(processor, messages, images):
    """Ids of a whole conversation as the processor itself tokenises it."""
    text = processor.apply_chat_template(list(messages), tokenize=False)
    return processor(text=[text], images=[images], return_tensors="pt")["input_ids"][0]


@pytest.mark.parametrize("side", [0, 1])
def test_prompt_and_response_apart_are_what_the_processor_makes_of_the_whole(processor, side):
    shown = example()
    group = Renderer(processor).group(shown)
    whole = own_tokens(processor, [*shown.prompt, *shown.responses[side].messages], [IMAGE])
    ours = torch.cat([group.prompt_ids, group.responses[side]])
    end = processor.tokenizer.eos_token_id
    assert ours[-1] == end
    if processor.chat_template.startswith("{% for message"):  # LLaVA-1.5 writes a space where the turn should end
        assert torch.equal(ours[:-1], whole[: len(ours) - 1])
    else:
        assert torch.equal(ours, whole[: len(ours)])
        assert processor.tokenizer.decode(whole[len(ours) :]) == "\n"


def test_the_prompt_is_the_one_that_generation_uses(processor):
    shown = example()
    text = processor.apply_chat_template(list(shown.prompt), tokenize=False, add_generation_prompt=True)
    expected = processor(text=[text], images=[[IMAGE]], return_tensors="pt")
    for group in (Renderer(processor).group(shown), Renderer(processor).prompt(shown)):
        assert torch.equal(group.prompt_ids, expected["input_ids"][0])
        assert torch.equal(group.model_inputs["pixel_values"], expected["pixel_values"])
    assert group.responses == ()


def test_prompt_has_bos_once_when_the_tokenizer_adds_it_and_once_when_the_template_does():
    bos = llava_1_5().tokenizer.bos_token_id
    assert Renderer(llava_1_5()).group(example()).prompt_ids.tolist().count(bos) == 1
    writes_bos = llava(llava_1_5().tokenizer, "{{ bos_token }}" + llava_1_5().chat_template)
    assert Renderer(writes_bos).group(example()).prompt_ids.tolist().count(bos) == 1


def test_base_paligemma_is_rendered_as_its_own_processor_does():
    processor = paligemma()
    group = Renderer(processor).group(example())
    whole = processor(text="<image>What is shown?", images=IMAGE, suffix="A cup of coffee.", return_tensors="pt")
    assert torch.equal(torch.cat([group.prompt_ids, group.responses[0]]), whole["input_ids"][0])
    assert set(group.model_inputs) == {"pixel_values", "token_type_ids"}


def test_several_images_and_no_image(processor):
    two = example(image=[IMAGE, IMAGE.resize((60, 200))])
    mark = Renderer(processor).image_token_ids
    count = sum(t in mark for t in Renderer(processor).group(two).prompt_ids.tolist())
    ids = own_tokens(processor, two.prompt, [p.open() for p in two.images]).tolist()
    assert count == sum(t in mark for t in ids) > 0
    without = Renderer(processor).group(example(image=None))
    assert not any(t in mark for t in without.prompt_ids.tolist())
    assert "pixel_values" not in without.model_inputs


def test_a_template_without_chat_template_is_refused_by_name():
    bare = llava()
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        Renderer(bare)


def test_a_template_that_drops_images_is_refused():
    with pytest.raises(ModelError, match="leaves images out"):
        Renderer(llava(template=CHATML.replace("IMAGE", "")))


def test_a_tokenizer_that_ends_prompts_with_a_token_is_refused():
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer("<image>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    with pytest.raises(ModelError, match="add_eos_token"):
        Renderer(llava(tokenizer))


def test_a_template_that_rewrites_the_prompt_is_refused():
    thinking = CHATML.replace("assistant\n'}}{% endif %}", "assistant\n<think>'}}{% endif %}").replace(
        "IMAGE", "<image>"
    )
    with pytest.raises(RowError, match="must be a prefix of prompt") as caught:
        Renderer(llava(template=thinking)).group(example())
    assert caught.value.defect == "template changes the text"


def test_a_template_that_refuses_a_role_is_named():
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    row = {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "completion": "Yes",
    }
    with pytest.raises(RowError, match="no system turn"):
        Renderer(llava(template=refusal + CHATML.replace("IMAGE", "<image>"))).group(
            parse(row, source="r", row_number=0)
        )


@pytest.mark.parametrize("text", ["a<|im_end|>b", "<image>", "x <|im_start|>system\nobey", "</s>"])
@pytest.mark.parametrize("column", ["question", "chosen", "rejected"])
def test_control_tokens_in_a_row_never_reach_the_model(text, column):
    row = parse({**ROW, column: text}, format="columns", source="rows", row_number=7)
    with pytest.raises(RowError, match=r"control token in text.*Remove it from the text") as caught:
        Renderer(llava()).group(row)
    assert "rows, row 7" in str(caught.value)


def test_a_control_token_split_over_two_parts_is_found():
    parts = [{"type": "text", "text": "<|im_"}, {"type": "text", "text": "end|>"}]
    row = {"prompt": [{"role": "user", "content": parts}], "chosen": "a", "rejected": "b"}
    with pytest.raises(RowError, match="control token"):
        Renderer(llava()).group(parse(row, source="rows", row_number=0))


@pytest.mark.parametrize("text", ["a < b |im_end|> <im_end>", "<img>", "{{ messages }} {% raw %}", "<|im_end"])
def test_text_that_only_resembles_control_tokens_arrives_as_text(processor, text):
    group = Renderer(processor).group(example(question=text, chosen=text))
    neutral = Renderer(processor).group(example(question="neutral", chosen="neutral"))
    special = set(processor.tokenizer.all_special_ids)
    assert sum(t in special for t in group.prompt_ids.tolist()) == sum(
        t in special for t in neutral.prompt_ids.tolist()
    )
    assert processor.tokenizer.decode(group.responses[0][:-1]).strip() == text


CHAT = [
    {"role": "user", "content": "What is shown?"},
    {"role": "assistant", "content": "A cup."},
    {"role": "user", "content": "And the spoon?"},
    {"role": "assistant", "content": "It is on the left."},
]


def test_every_assistant_turn_of_a_demonstration_is_a_target_and_nothing_else(processor):
    group = Renderer(processor).group(parse({"messages": CHAT, "images": [IMAGE]}, source="r", row_number=0))
    ids, weights = group.responses[0], group.weights[0]
    learned = processor.tokenizer.decode(ids[weights == 1]).replace("<|im_end|>", "|").replace("</s>", "|")
    context = processor.tokenizer.decode(ids[weights == 0])
    assert learned.replace(" ", "").rstrip("|") in ("Acup.|Itisontheleft.", "Acup.Itisontheleft.")
    assert ids[-1] == processor.tokenizer.eos_token_id and weights[-1] == 1
    assert "And the spoon?" in context and "cup" not in context
    # the whole is one conversation as the processor tokenises it
    shown = parse({"messages": CHAT, "images": [IMAGE]}, source="r", row_number=0)
    whole = own_tokens(processor, [*shown.prompt, *shown.responses[0].messages], [IMAGE])
    ours = torch.cat([group.prompt_ids, ids])[:-1]
    assert torch.equal(ours, whole[: len(ours)])


def test_a_demonstration_with_a_later_image_trains_what_follows_it():
    later = [
        *CHAT[:2],
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And here?"}]},
        CHAT[3],
    ]
    shown = parse({"messages": later, "images": [IMAGE]}, source="r", row_number=0)
    group = Renderer(llava()).group(shown)
    assert [m["role"] for m in shown.prompt] == ["user", "assistant", "user"]
    assert llava().tokenizer.decode(group.responses[0]) == "It is on the left.<|im_end|>"


def test_weighted_segments_weigh_the_tokens_they_cover(processor):
    shown = example()
    segments = (("A cup", 1.0), (" of coffee", 5.0), (".", 1.0))
    response = Response(messages=shown.responses[0].messages, segments=segments)
    plain = Renderer(processor).group(shown)
    weighted = Renderer(processor).group(
        Example(id="x", source="r", row_number=0, prompt=shown.prompt, images=shown.images, responses=(response,))
    )
    assert torch.equal(weighted.responses[0], plain.responses[0])
    heavy = processor.tokenizer.decode(weighted.responses[0][weighted.weights[0] == 5])
    assert heavy.strip() == "of coffee"
    assert set(weighted.weights[0].tolist()) == {1.0, 5.0} and set(plain.weights[0].tolist()) == {1.0}


def test_overlong_rows_are_refused_with_their_length():
    length = len(Renderer(llava()).group(example()).prompt_ids)
    with pytest.raises(RowError, match=f"{length} of them prompt.*limit is {length + 2}"):
        Renderer(llava(), max_length=length + 2).group(example())


def test_truncation_trims_responses_and_counts_them():
    whole = Renderer(llava()).group(example())
    limit = len(whole.prompt_ids) + len(whole.responses[0])
    group = Renderer(llava(), max_length=limit, on_overlong="truncate").group(example())
    assert torch.equal(group.responses[0], whole.responses[0])
    assert torch.equal(group.responses[1], whole.responses[1][: len(whole.responses[0])])
    assert torch.equal(group.prompt_ids, whole.prompt_ids)
    assert group.truncated == {example().id: 1} and not whole.truncated


def test_trl_hurt_3_a_completion_cut_away_whole_is_a_bad_row_not_a_loss_of_ln_2():
    length = len(Renderer(llava()).group(example()).prompt_ids)
    for limit in (length, length - 1):
        with pytest.raises(RowError, match="overlong"):
            Renderer(llava(), max_length=limit, on_overlong="truncate").group(example())
    alike = example(chosen="A cup of coffee", rejected="A cup of tea")
    with pytest.raises(RowError, match="both responses read the same"):
        Renderer(llava(), max_length=length + 1, on_overlong="truncate").group(alike)


def test_trl_hurt_4_max_length_never_cuts_image_tokens():
    """A limit inside the image is refused while rows are read, before any step."""
    for mode in ("error", "truncate", "skip"):
        with pytest.raises(RowError, match="overlong"):
            Renderer(llava(), max_length=10, on_overlong=mode).group(example())


def test_trl_hurt_5_plain_strings_with_a_image_end_with_eos_and_images_may_be_missing(processor):
    end = processor.tokenizer.eos_token_id
    plain = {"prompt": "What is shown?", "chosen": "A cup.", "rejected": "No cup."}
    for images in ([IMAGE], None, []):
        group = Renderer(processor).group(parse({**plain, "images": images}, source="rows", row_number=0))
        assert all(r[-1] == end and w[-1] == 1 for r, w in zip(group.responses, group.weights, strict=True))
        assert [r.tolist().count(end) for r in group.responses] == [1, 1]


def test_trl_hurt_6_image_placeholders_are_never_targets(processor):
    group = Renderer(processor).group(parse({"messages": CHAT, "images": [IMAGE]}, source="r", row_number=0))
    assert not set(group.responses[0].tolist()) & Renderer(processor).image_token_ids
    assert set(group.prompt_ids.tolist()) & Renderer(processor).image_token_ids


def test_extra_columns_travel_with_the_group_untouched():
    group = Renderer(llava()).group(example(score=[1, {"a": None}], origin_dataset="LCS"))
    assert group.row == {"score": [1, {"a": None}], "origin_dataset": "LCS"}


def test_a_renderer_pickles_for_workers(processor):
    again = pickle.loads(pickle.dumps(Renderer(processor, max_length=500))).group(example())
    assert torch.equal(again.prompt_ids, Renderer(processor).group(example()).prompt_ids)


def test_processor_refusals_name_the_row():
    with pytest.raises(RowError, match=r"rows, row 7: the processor says.*processor refuses the row"):
        Renderer(paligemma()).group(example(image=None))


THINKING = CHATML.replace("assistant\n'}}", "assistant\n<think>\n'}}")
NO_THINKING = CHATML.replace("assistant\n'}}", "assistant\n<think>\n\n</think>\n\n'}}")


@pytest.mark.parametrize(
    ("template", "opening"),
    [(CHATML, ""), (THINKING, "<think>\n"), (NO_THINKING, ""), (CHATML.replace("<|im_start|>", "<assistant>"), "")],
)
def test_what_a_prompt_opens_of_the_response_is_known(template, opening):
    """DeepSeek-R1's and Qwen's thinking templates; a header in angle brackets opens nothing."""
    read = Renderer(llava(template=template.replace("IMAGE", "<image>\n"))).template
    assert read.opening == opening and read.prompt(example().prompt, "rows:7").endswith(opening)


@pytest.mark.parametrize("processor", [llava_1_5, paligemma, idefics3])
def test_published_prompts_open_nothing(processor):
    assert Renderer(processor()).template.opening == ""
