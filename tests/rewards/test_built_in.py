import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

from sightline.errors import RewardError
from sightline.rewards.accuracy import Accuracy
from sightline.rewards.form import Length, Repetition, ThinkFormat
from sightline.rewards.hallucination import Hallucination

token_ids = st.lists(st.lists(st.integers(0, 3), max_size=30), max_size=4)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("<think>a\nb</think>\n<answer>4</answer>", 1.0),
        ("<think></think><answer></answer>\n", 1.0),
        ("<answer>4</answer>", 0.0),
        ("<think>a</think>4", 0.0),
        ("<think>a</think><answer>4</answer> or 5", 0.0),
        ("<think>a<think>b</think></think><answer>4</answer>", 0.0),
        ("<think>a</think><answer>4</answer><answer>5</answer>", 0.0),
        ("<think>a</think><answer><think>4</think></answer>", 0.0),
    ],
)
def test_think_format_wants_each_tag_once_and_in_order(answer, score):
    assert ThinkFormat()([answer]) == ThinkFormat()([[{"role": "assistant", "content": answer}]]) == [score]


def test_think_format_can_do_without_answer_tags():
    assert ThinkFormat(answer_tags=False)(["<think>a</think>4", "4"]) == [1.0, 0.0]


@given(token_ids)
def test_length_is_the_soft_overlong_punishment_of_trl(ids):
    ours = Length(longest=20, buffer=8)(completion_ids=ids)
    assert ours == pytest.approx(get_soft_overlong_punishment(20, 8)(completion_ids=ids))


def test_length_punishes_too_short_answers_in_proportion():
    scores = Length(longest=20, shortest=4)(completion_ids=[[], [1], [1] * 4, [1] * 20, [1] * 21])
    assert scores == [-1.0, -0.75, 0.0, 0.0, -1.0]


@given(token_ids, st.integers(1, 4))
def test_repetition_is_that_of_trl(ids, ngram):
    assert Repetition(ngram=ngram)(completion_ids=ids) == get_repetition_penalty_reward(ngram)(completion_ids=ids)


def hallucination(caption, objects, **options):
    reward = Hallucination(vocabulary=["red circle", "blue ring", "green cross", "circle"], **options)
    return reward([caption], objects=[objects])[0]


def test_hallucination_counts_what_is_absent_and_what_is_missed():
    there = ["red circle", "blue ring"]
    assert hallucination("A red circle and a blue ring.", there) == 1.0
    assert hallucination("A red circle.", there) == pytest.approx(1 - 1 / 2)
    assert hallucination("A Red Circle, a blue ring and a green cross.", there) == pytest.approx(1 - 1 / 3)
    assert hallucination("A green cross.", there) == -1.0
    assert hallucination("Nothing.", there) == 0.0
    assert hallucination("A green cross.", there, absent_weight=0.25) == -0.25
    assert hallucination("A red circle.", there, missed_weight=0.0) == 1.0


def test_hallucination_reads_plurals_longer_names_first_and_lists_in_text():
    assert hallucination("Two red circles, blue rings", "red circle, blue ring") == 1.0
    assert hallucination("A red circle", None) is None


@pytest.mark.parametrize(
    ("caption", "objects", "score"),
    [
        ("Three foxes.", ["foxes"], 1.0),
        ("Some geese near two benches.", ["goose", "bench"], 1.0),
        ("Two firemen and a fox.", ["fireman"], 0.5),
        ("Wolves!", [], 0.0),
        ("A fox beside a llama.", ["fox", "llama"], 1.0),  # a row's own object can be named although it is not listed
        ("A fox.", ["fox", "llama"], 0.5),
        ("A fox.", " Foxes , ", 1.0),
        ("<think>A wolf? No.</think><answer>A fox.</answer>", ["fox"], 1.0),
    ],
)
def test_hallucination_reads_plurals_in_captions_and_in_the_truth(caption, objects, score):
    reward = Hallucination(vocabulary=["fox", "goose", "bench", "fireman", "wolf"])
    assert reward([caption], objects=[objects]) == [pytest.approx(score)]


def test_hallucination_reads_synonyms_from_a_file(tmp_path):
    words = tmp_path / "objects.txt"
    words.write_text("person, man, woman\nteddy bear, teddy\n")
    reward = Hallucination(vocabulary=str(words))
    assert reward(["A woman with a teddy."], objects=[["man", "Teddy bear"]]) == [1.0]
    assert reward(["Women with teddies."], objects=[["men", "Teddy bears"]]) == [1.0]


def test_accuracy_chooses_how_to_compare_by_the_truth():
    solutions = ["B", "14", "Yes", ["cat", "kitten"], None]
    texts = ["The answer is B", "<think>7+8=15</think> It is 14.0", "yes.", "Kitten", "?"]
    assert Accuracy()(texts, solution=solutions) == [1.0, 1.0, 1.0, 1.0, None]
    assert Accuracy()(["A", "15", "No", "dog", "?"], solution=solutions) == [0.0, 0.0, 0.0, 0.0, None]


def test_accuracy_takes_a_column_method_and_tolerance():
    assert Accuracy(column="label", method="relaxed")(["10.4"], label=[["10"]]) == [1.0]
    assert Accuracy(column="label", method="relaxed", tolerance=0.01)(["10.4"], label=[["10"]]) == [0.0]
    assert Accuracy(method="numeric", tolerance=0.1)(["9.2"], solution=["10"]) == [1.0]


def test_accuracy_says_which_columns_there_are():
    with pytest.raises(RewardError, match=r"column `solution`.* They have answer"):
        Accuracy()(["4"], answer=["4"])
