"""Rewards and the names of columns: what they get, what is refused."""

import inspect
from dataclasses import replace

import pytest

from sightline.errors import RewardError
from sightline.rewards.accuracy import Accuracy
from sightline.rewards.completions import Completions
from sightline.rewards.find import BUILT_IN, find_function
from sightline.rewards.hallucination import Hallucination
from sightline.rewards.reward_model import RewardModel
from sightline.rewards.reward_set import GIVEN, TABLE, Reward, RewardSet, arguments
from tests.column_names import FREE_NAMES, VALUES
from tests.judge_server import server as judge_server  # noqa: F401
from tests.rewards.made import answers

OPTIONS = {"hallucination": {"vocabulary": ["cup"]}, "length": {"longest": 4, "buffer": 2}}


def named(value, count: int = 1) -> dict[str, list]:
    return {name: [value] * count for name in FREE_NAMES}


def answered(*texts: str, columns: dict[str, list]) -> Completions:
    return replace(answers(*texts), columns=columns)


def only(function, **options) -> RewardSet:
    return RewardSet([Reward(name="it", function=function, **options)])


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_function_gets_every_column_by_its_name(value):
    seen = {}

    def by_name(completions, label, index, text, seconds, function, self=None, **others):
        seen.update(others, label=label, index=index, text=text, seconds=seconds, function=function, self=self)
        return [0.0] * len(completions)

    async def asynchronous(completions, **columns):
        seen.update(columns)
        return [0.0] * len(completions)

    for function in (by_name, asynchronous):
        seen.clear()
        rewards = only(function)
        rewards.prepare(FREE_NAMES)
        rewards.score(answered("a", "b", columns=named(value, 2)))
        assert {name: seen[name] for name in FREE_NAMES} == named(value, 2)


APART = {"judge", "claims", "self_check", "reward_model", "accuracy", "hallucination"}
"""They need a judge, a model or a column, and have tests of their own below."""


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - APART))
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_built_in_rewards_score_beside_any_column(name, value):
    function = find_function(name, OPTIONS.get(name, {}))
    alone = only(function).score(answers("a cup", "b")).total
    assert only(function).score(answered("a cup", "b", columns=named(value, 2))).total.tolist() == alone.tolist()


def test_built_in_rewards_compare_with_a_column_of_any_name():
    for column in FREE_NAMES:
        columns = {**named("no"), column: ["cup"]}
        for function in (Accuracy(column=column), Hallucination(vocabulary=["cup", "hat"], column=column)):
            rewards = only(function)
            rewards.prepare(FREE_NAMES)
            assert rewards.score(answered("cup", columns=columns)).total.tolist() == [1.0], column


def test_a_judge_reads_its_reference_from_a_column_of_any_name(judge_server):  # noqa: F811
    url, asked, replies = judge_server
    replies([(200, "7")] * 2)
    for column in ("label", "self"):
        judge = find_function("judge", {"url": url, "model": "j", "column": column})
        assert only(judge).score(answered("a", columns=named("the truth"))).total.tolist() == [pytest.approx(0.7)]
        assert "Reference answer:\nthe truth" in asked[-1]["messages"][1]["content"][-1]["text"]


def test_claims_are_judged_beside_any_column(judge_server):  # noqa: F811
    url, asked, replies = judge_server
    for value in VALUES.values():
        replies([(200, "yes")])
        judge = find_function("claims", {"url": url, "model": "j"})
        assert only(judge).score(answered("A fox.", columns=named(value))).total.tolist() == [1.0]
    assert len(asked) == len(VALUES)


def test_a_reward_model_can_be_called_with_columns_of_any_name():
    function = RewardModel(model="nowhere")
    given = arguments(Reward(name="it", function=function), answered("a", columns=named("cat")), {})
    assert set(FREE_NAMES) < set(inspect.signature(function).bind(**given).arguments["columns"])


@pytest.mark.parametrize("name", [name for name in GIVEN if name != "images"])
def test_a_column_called_like_what_the_run_gives_is_refused_before_and_while_answers_are_sampled(name):
    def any_reward(completions, **columns):
        raise AssertionError

    said = rf"is called `{name}`.*Rename the column, in the recipe with `data.columns: \{{own_{name}: {name}\}}`"
    with pytest.raises(RewardError, match=f"A column of the rows {said}"):
        only(any_reward).prepare(["solution", name])
    with pytest.raises(RewardError, match=f"A column of rows.jsonl:0 or another row of its step {said}"):
        only(any_reward).score(answers("a", solution=["b"], **{name: ["mine"]}))


@pytest.mark.parametrize("name", [*TABLE, "rewards/it"])
def test_what_a_reward_logs_cannot_take_the_place_of_a_column_of_the_table(name):
    def logging(completions, log_extra, **columns):
        log_extra(name, ["mine"] * len(completions))
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=f"logs `{name}` with `log_extra`.*Log it under another"):
        only(logging).score(answers("a"))
