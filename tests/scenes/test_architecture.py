from numpy.random import RandomState

from sightline.scenes.architecture import processor, tokenizer
from sightline.scenes.questions import Aspect, attribute, counting, description, existence
from sightline.scenes.world import SHAPES, THINGS, draw_scene

WORDS = tokenizer()
BOTH: tuple[Aspect, Aspect] = ("colour", "shape")


def ids(text: str) -> list[int]:
    return WORDS(text, add_special_tokens=False)["input_ids"]


def test_every_question_and_answer_of_the_world_is_read_and_written_back():
    random = RandomState(0)
    assert len(SHAPES) * 5 == len(THINGS)
    for index in range(300):
        scene = draw_scene(0, index)
        asked = [description(scene), existence(scene, "absent", random), *(counting(scene, by, random) for by in BOTH)]
        for question in (*asked, *(attribute(scene, by, random) or asked[0] for by in BOTH)):
            assert WORDS.unk_token_id not in ids(question.text)
            assert WORDS.decode(ids(question.answer)) == question.answer


def test_unknown_words_become_unknown_and_nothing_else_does():
    assert [i == WORDS.unk_token_id for i in ids("Is there a violet circle?")] == [
        False,
        False,
        False,
        True,
        False,
        False,
    ]


def test_a_question_may_begin_without_a_capital():
    assert ids("is there a red ring?") == ids("Is there a red ring?")
    assert ids("Yes") != ids("yes")


def test_a_image_of_any_shape_becomes_sixteen_places():
    reader = processor()
    image = draw_scene(0, 0).image().resize((300, 170))
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe this image."}]}]
    text = reader.apply_chat_template(messages, add_generation_prompt=True)
    assert text == "<user><image>Describe this image.<assistant>"
    inputs = reader(text=[text], images=[image], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    assert (inputs["input_ids"] == reader.image_token_id).sum() == 16


def test_the_prompt_is_a_prefix_of_the_conversation_and_a_turn_ends_with_the_end_token():
    reader = processor()
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is there a red ring?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
    ]
    whole = reader.apply_chat_template(turns)
    assert whole.startswith(reader.apply_chat_template(turns[:1], add_generation_prompt=True))
    assert ids(whole)[-1] == WORDS.eos_token_id
