"""Which figures of held-out rows a run can watch: those that its objective gives, and no others."""

from typing import get_args

import pytest
from pydantic import TypeAdapter

from sightline.config.figures import better_side, held_out_figures
from sightline.config.objective import ObjectiveConfig
from sightline.config.online_objectives import OnlineObjectiveConfig
from sightline.errors import RecipeError
from sightline.objectives.objective import build
from sightline.recipe import normalise, structure
from tests.objectives.every import EVERY, build_from
from tests.objectives.made_steps import columns_of, make_groups, make_log_probs

JUDGED = {"mean_token_accuracy", "rewards/accuracies", "rewards/margins", "reward"}


@pytest.mark.parametrize("name", EVERY)
def test_the_list_of_an_objective_is_what_it_gives(name):
    objective = build_from(EVERY[name])
    groups = make_groups(4, objective)
    policy, reference = make_log_probs(groups, seed=1), make_log_probs(groups, seed=2)
    losses = objective(policy, reference if objective.needs_reference else None, columns_of(groups))
    given = {figure for loss in losses.values() for figure in loss.metrics} & JUDGED
    config = TypeAdapter(ObjectiveConfig).validate_python(EVERY[name])
    assert held_out_figures(config).keys() == {"eval_loss", *(f"eval_{figure}" for figure in given)}


def test_online_objectives_give_rewards_and_no_loss():
    for kind in get_args(OnlineObjectiveConfig):
        config = kind()
        assert build(config, max_completion_length=8).num_responses == 0
        assert held_out_figures(config) == {"eval_reward": "higher"}
        assert better_side("eval_rewards/brief/mean", config, {"brief": 1.0}) == "higher"
        assert better_side("eval_rewards/brief/mean", config, {"brief": -1.0}) == "lower"
        with pytest.raises(ValueError, match="Did you mean `eval_rewards/brief/mean`"):
            better_side("eval_rewards/breif/mean", config, {"brief": 1.0})


@pytest.mark.parametrize(
    ("objective", "evaluation", "refused"),
    [
        ("grpo", {"best": "eval_reward"}, None),
        ("grpo", {"limits": {"eval_rewards/accuracy/mean": 0.1}}, None),
        (
            "grpo",
            {"best": "eval_loss"},
            "which `objective.type: grpo` does not give.*eval_reward, and of each",
        ),
        ("sft", {"best": "eval_rewards/accuracies"}, "It can watch eval_loss, eval_mean_token_accuracy"),
        ("sft", {"limits": {"eval_rewards/margins": 0.5}}, "`eval_rewards/margins`, which `objective.type: sft`"),
        ("kto", {"best": "eval_rewards/margins"}, "does not give"),
        ("dpo", {"best": "eval_reward"}, "It can watch .*eval_rewards/margins"),
        ("dpo", {"best": "eval_rewards/margin"}, "Did you mean `eval_rewards/margins`"),
        ("dpo", {"best": "eval_rewards/margins"}, None),
    ],
)
def test_a_figure_that_the_objective_does_not_give_is_refused_with_the_recipe(objective, evaluation, refused):
    online = {"rewards": {"accuracy": 1.0}} if objective == "grpo" else {}
    tree = normalise({"objective": objective, "evaluation": evaluation, **online})
    if refused is None:
        structure(tree)
        return
    with pytest.raises(RecipeError, match=refused):
        structure(tree)
