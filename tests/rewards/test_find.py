from pathlib import Path

import pytest
from pydantic import TypeAdapter

from sightline.config.online import Rewards
from sightline.errors import RecipeError
from sightline.rewards.find import BUILT_IN, build_reward_set, find_function
from sightline.rewards.form import Length
from tests.rewards.made import answers

OWN = """
def polite(completions, prompts, word="please", **columns):
    return [float(word in completion) for completion in completions]

class Counter:
    def __init__(self, letter):
        self.letter = letter

    def __call__(self, completions, **columns):
        return [completion.count(self.letter) for completion in completions]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "types.py"  # a name that Python's own library has
    path.write_text(OWN)
    return path


def read(given):
    return TypeAdapter(Rewards).validate_python(given)


def test_a_recipe_names_rewards_in_any_of_four_ways(own):
    one = read("think_format")
    several = read(["think_format", {"name": f"{own}:polite", "weight": 0.5}])
    weights = read({"think_format": 1.0, f"{own}:polite": 0.5})
    options = read({"think_format": None, f"{own}:polite": {"weight": 0.5, "word": "thanks"}})
    assert one == several[:1] == weights[:1] == options[:1]
    assert several == weights
    assert options[1].options == {"word": "thanks"} and options[1].weight == 0.5
    assert read(TypeAdapter(Rewards).dump_python(options)) == options


def test_every_built_in_reward_is_there():
    needed = {
        "length": {"longest": 9},
        "hallucination": {"vocabulary": ["cat"]},
        "judge": {"url": "http://127.0.0.1:1/v1", "model": "judge"},
        "reward_model": {"model": "nowhere"},
    }
    for name in BUILT_IN:
        assert callable(find_function(name, needed.get(name, {})))


def test_functions_and_classes_come_from_files_and_modules_with_their_options(own):
    text = answers("please", "thanks")
    for given, totals in [
        ({f"{own}:polite": 1.0}, [1.0, 0.0]),
        ({f"{own}:polite": {"weight": 2, "word": "thanks"}}, [0.0, 2.0]),
        ({f"{own}:Counter": {"letter": "a"}}, [1.0, 1.0]),
        ({"sightline.rewards.form.Length": {"longest": 1}}, [0.0, 0.0]),
    ]:
        assert build_reward_set(read(given)).score(text).total.tolist() == totals


def test_an_option_wins_over_a_column_of_its_name(own):
    reward_set = build_reward_set(read({f"{own}:polite": {"word": "thanks"}}))
    assert reward_set.score(answers("please", "thanks", word=["please", "please"])).total.tolist() == [0.0, 1.0]


def test_metrics_are_named_after_the_function(own):
    assert build_reward_set(read([f"{own}:polite", "accuracy"]), [len]).names == ["polite", "accuracy", "len"]


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("acuracy", {}, "Did you mean `accuracy`?"),
        ("nonsense", {}, "Built in: think_format"),
        ("nowhere.py:f", {}, "there is no file nowhere.py"),
        ("no.such.module", {}, "there is no module `no`"),
        ("math.squareroot", {}, "no `squareroot`"),
        ("accuracy", {"colum": "answer"}, "no option `colum`. Did you mean `column`?"),
        ("accuracy", {"method": "guess"}, "option `method`"),
        ("length", {}, "option `longest`"),
        ("length", {"longest": 5, "shortest": 9}, "no length would be right"),
        ("math.pi", {}, "not a function"),
    ],
)
def test_a_reward_that_cannot_be_is_refused_with_a_hint(name, options, complaint):
    with pytest.raises(RecipeError) as caught:
        find_function(name, options)
    assert complaint in str(caught.value)


def test_a_misspelt_function_of_a_file_is_named(own):
    with pytest.raises(RecipeError, match="Did you mean `polite`"):
        find_function(f"{own}:polit", {})


def test_a_built_in_name_gives_its_class():
    assert find_function("length", {"longest": 3}) == Length(longest=3)
