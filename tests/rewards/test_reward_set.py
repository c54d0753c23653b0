import asyncio
import math
import time
from pathlib import Path

import pytest
import torch
from trl.rewards import accuracy_reward, think_format_reward

from sightline.config.online import RewardConfig
from sightline.errors import RewardError
from sightline.rewards.find import build_reward_set
from sightline.rewards.reward_set import Reward, RewardSet
from tests.rewards.made import answers

ARTICLE = Path(__file__).parent / "articles.py"


def only(function, **options):
    return RewardSet([Reward(name=function.__name__, function=function, **options)])


def length(completions, **columns):
    return [len(completion) for completion in completions]


def even_only(completions, **columns):
    return [1.0 if len(c) % 2 == 0 else None for c in completions]


def test_rewards_are_weighted_and_added_where_they_apply():
    both = RewardSet([Reward(name="length", function=length, weight=0.5), Reward(name="even", function=even_only)])
    scores = both.score(answers("ab", "abc"))
    assert scores.values[0].tolist() == [2.0, 1.0]
    assert scores.values[1, 0] == 3.0 and math.isnan(scores.values[1, 1])
    assert scores.total.tolist() == [2.0, 1.5]


def test_an_answer_that_no_reward_applies_to_has_no_total():
    assert only(even_only).score(answers("ab", "abc")).total.isnan().tolist() == [False, True]


def test_completions_come_as_the_data_has_them_or_as_asked():
    seen = []

    def look(completions, prompts, **columns):
        seen.append((completions[0], prompts[0]))
        return [0.0] * len(completions)

    only(look).score(answers("two", messages=True))
    only(look).score(answers("two"))
    only(look, form="text").score(answers("two", messages=True))
    only(look, form="messages").score(answers("two"))
    message = [{"role": "assistant", "content": "two"}]
    assert [completion for completion, _ in seen] == [message, "two", "two", message]
    assert seen[0][1][0]["role"] == "user" and seen[1][1] == "How many?"


def test_columns_and_token_ids_reach_the_function_row_by_row():
    def closeness(completions, completion_ids, target):
        return [-abs(len(ids) - t) for ids, t in zip(completion_ids, target, strict=True)]

    scores = only(closeness).score(answers("a b c", "a", target=[3, 4], unused=[0, 0]))
    assert scores.total.tolist() == [0.0, -3.0]


def test_the_articles_rewards_run_unchanged():
    right = r"<think>half of 260</think><answer>$130$</answer>"
    text = build_reward_set([RewardConfig(name=f"{ARTICLE}:format_reward")])
    assert text.score(answers(right, "130")).total.tolist() == [1.0, 0.0]
    math_ = build_reward_set([RewardConfig(name=f"{ARTICLE}:accuracy_reward")])
    given = answers(right, "$140$", messages=True, solution=["$130$", "$130$"])
    assert math_.score(given).total.tolist() == [1.0, 0.0]


def test_the_articles_rewards_run_side_by_side_once_told_what_each_wants():
    both = build_reward_set(
        [
            RewardConfig(name=f"{ARTICLE}:format_reward", completions="text"),
            RewardConfig(name=f"{ARTICLE}:accuracy_reward"),
        ]
    )
    given = answers("<think>x</think><answer>$3$</answer>", messages=True, solution=["$3$"])
    assert both.score(given).values.tolist() == [[1.0, 1.0]]
    with pytest.raises(RewardError, match="completions: text"):
        build_reward_set([RewardConfig(name=f"{ARTICLE}:format_reward")]).score(given)


def test_trls_own_rewards_run_unchanged():
    given = answers(
        "<think>1/3</think>\nThe answer is \\boxed{\\frac{1}{3}}", "7", messages=True, solution=["\\frac{1}{3}"] * 2
    )
    scores = build_reward_set([], [accuracy_reward, think_format_reward]).score(given)
    assert scores.values.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert scores.columns["gold_parsed"]


def test_a_reward_that_raises_stops_with_name_row_and_line():
    def fragile(completions, **columns):
        return [1 / len(completion.split()) for completion in completions]

    with pytest.raises(RewardError) as caught:
        only(fragile).score(answers("one", "two words", "", "one"))
    message = str(caught.value)
    assert "`fragile` raised ZeroDivisionError" in message and "rows.jsonl:2" in message
    assert "return [1 / len(completion.split())" in message
    assert "rewards/time_limit.py" not in message and "rewards/reward_set.py" not in message
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_reward_that_hangs_stops_with_name_row_and_line():
    def hangs(completions, **columns):
        for completion in completions:
            while "loop" in completion:
                time.sleep(0.01)
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"`hangs` took too long \(not done after 0.2 seconds\), on row rows.jsonl:1"):
        only(hangs, timeout=0.2).score(answers("fine", "loop", "fine"))


def test_a_reward_that_hangs_asynchronously_stops_with_name_row_and_line():
    async def hangs(completions, **columns):
        await asyncio.sleep(60 if "loop" in completions else 0)
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"on row rows\.jsonl:1") as caught:
        only(hangs, timeout=0.2).score(answers("fine", "loop"))
    assert "await asyncio.sleep" in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ([1.0], "returned 1 rewards for 2 completions"),
        (3.0, "returned a float"),
        (["good", 1.0], "returned 'good'"),
        ([math.nan, 1.0], "returned nan; give None"),
        ([math.inf, 1.0], "returned inf"),
    ],
)
def test_a_reward_that_returns_anything_but_one_number_an_answer_stops(returned, complaint):
    def broken(completions, **columns):
        return returned

    with pytest.raises(RewardError, match=complaint):
        only(broken).score(answers("a", "b"))


def test_a_tensor_of_rewards_is_fine():
    def tensor(completions, **columns):
        return torch.arange(len(completions))

    assert only(tensor).score(answers("a", "b")).total.tolist() == [0.0, 1.0]


def test_asynchronous_rewards_run_beside_each_other():
    barrier = []

    async def first(completions, **columns):
        barrier.append("first")
        while "second" not in barrier:
            await asyncio.sleep(0.01)
        return [1.0] * len(completions)

    async def second(completions, **columns):
        while "first" not in barrier:
            await asyncio.sleep(0.01)
        barrier.append("second")
        return [2.0] * len(completions)

    rewards = [Reward(name=f.__name__, function=f, timeout=20.0) for f in (first, second)]
    assert RewardSet(rewards).score(answers("a")).values.tolist() == [[1.0, 2.0]]


def test_a_missing_column_is_named_with_those_there_are():
    def accuracy(completions, solution):
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"needs `solution`, .* rows.jsonl:0.* Their columns: answer"):
        only(accuracy).score(answers("a", answer=["b"]))


def test_what_rewards_log_is_kept():
    def chatty(completions, log_extra, log_metric, **columns):
        log_extra("words", [len(c.split()) for c in completions])
        log_metric("mean_words", 1.5)
        return [0.0] * len(completions)

    scores = only(chatty).score(answers("a", "b c"))
    assert scores.columns == {"words": [1, 2]} and scores.metrics == {"mean_words": 1.5}


@pytest.mark.parametrize("name", ["loss", "reward", "rewards/length/mean", "learning_rate", "eval_reward", "kl"])
def test_a_reward_cannot_log_over_a_figure_of_the_run(name):
    def chatty(completions, log_metric, **columns):
        log_metric(name, 1.5)
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=f"logs `{name}` with `log_metric`.*such as `own/{name}`"):
        only(chatty).score(answers("a"))


def test_a_metric_is_a_number():
    def chatty(completions, log_metric, **columns):
        log_metric("words", "many")
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"logs 'many' as `words`.*a number is expected"):
        only(chatty).score(answers("a"))


def test_a_reward_of_weight_0_is_logged_and_changes_no_total():
    """What no other reward judges stays unjudged: as 0 it would be compared with the other completions."""
    watched = RewardSet(
        [Reward(name="even", function=even_only), Reward(name="length", function=length, weight=0.0)],
    )
    scores = watched.score(answers("ab", "abc", "abcd"))
    assert scores.total.isnan().tolist() == [False, True, False] and scores.total[[0, 2]].tolist() == [1.0, 1.0]
    assert scores.values[:, 1].tolist() == [2.0, 3.0, 4.0]
    with pytest.raises(RewardError, match="Every reward has weight 0"):
        only(length, weight=0.0)


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(RewardError, match="Two rewards are named `length`"):
        RewardSet([Reward(name="length", function=length)] * 2)
