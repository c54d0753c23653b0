"""Losses of the user's own, named in a recipe by file and function."""

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from sightline.config.objective import ObjectiveConfig
from sightline.errors import RecipeError
from sightline.objectives.objective import build
from sightline.recipe import dump_recipe, load_recipe
from sightline.types import Columns, LogProbs

OWN = """
from torch.nn.functional import logsigmoid

def dpo(chosen, rejected, ref_chosen, ref_rejected, beta):
    return -logsigmoid(beta * (chosen - ref_chosen - rejected + ref_rejected))

def hinge(chosen, rejected, margin=1.0):
    return (margin - chosen + rejected).clamp(min=0)

def likelihood(logp):
    return -logp

def clipped(log_ratio, advantage, epsilon):
    ratio = log_ratio.exp()
    return -torch_min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)

def torch_min(a, b):
    return a.minimum(b)

def summed(chosen, rejected, ref_chosen, ref_rejected):
    return (chosen - rejected).sum()

def detached(chosen, rejected, ref_chosen, ref_rejected):
    return (chosen - rejected).detach()

def wants_more(chosen, rejected, ref_chosen, temperature):
    return chosen

def no_pairs(values):
    return values

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def read(given: dict) -> ObjectiveConfig:
    return TypeAdapter(ObjectiveConfig).validate_python(given)


def scored(values: list[float], *, lengths: tuple[int, ...], per_group: int) -> LogProbs:
    response = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    logp = torch.tensor(values, requires_grad=True)
    group = torch.arange(len(lengths)) // per_group
    return LogProbs(
        logp=logp,
        weight=torch.ones(len(values)),
        response=response,
        response_group=group,
        num_groups=int(group.max()) + 1,
        entropy=torch.zeros(len(values)),
        top1=torch.zeros(len(values), dtype=torch.bool),
        mean_logit=torch.zeros(len(values)),
        log_sum_sq=torch.zeros(len(values)),
    )


def test_a_loss_of_ones_own_gives_the_values_and_gradients_of_the_built_in_one(own):
    policy = scored([-1.0, -2.0, -0.5, -3.0, -1.5, -2.5], lengths=(2, 1, 1, 2), per_group=2)
    reference = scored([-1.1, -1.8, -0.7, -2.9, -1.2, -2.6], lengths=(2, 1, 1, 2), per_group=2)
    found = build(read({"type": f"{own}:dpo", "beta": 0.3}))(policy, reference)["custom"]
    expected = build(read({"type": "dpo", "beta": 0.3}))(policy, reference)["dpo"]
    assert torch.equal(found.value, expected.value)
    gradients = [torch.autograd.grad(loss.value, policy.logp, retain_graph=True)[0] for loss in (found, expected)]
    assert torch.equal(*gradients)
    assert found.metrics.keys() == expected.metrics.keys()


def test_options_stand_beside_the_type_and_no_reference_is_loaded_where_none_is_read(own):
    config = read({"type": f"{own}:hinge", "uses_reference": False, "margin": 2.0})
    objective = build(config)
    assert not objective.needs_reference
    policy = scored([-1.0, -2.0], lengths=(1, 1), per_group=2)
    assert float(objective(policy)["custom"].value) == 1.0  # 2 + 1 − 2


def test_a_loss_over_tokens_is_that_of_demonstrations(own):
    policy = scored([-1.0, -2.0, -4.0], lengths=(2, 1), per_group=1)
    objective = build(read({"type": f"{own}:likelihood", "kind": "tokens"}))
    assert objective.num_responses == 1
    assert float(objective(policy)["custom_tokens"].value) == 7.0


def test_a_loss_over_sampled_completions_equals_grpo_by_tokens(own):
    policy = scored([-1.0, -2.0, -0.5, -3.0], lengths=(2, 2), per_group=2)
    columns = Columns(
        advantage=torch.tensor([1.0, -1.0]), old_logp=torch.tensor([-1.5, -2.0, -0.9, -2.0]), importance_weight=None
    )
    objective = build(read({"type": f"{own}:clipped", "kind": "online", "epsilon": 0.2}))
    assert objective.num_responses == 0 and objective.advantages is not None
    found = objective(policy, columns=columns)["custom_online"]
    expected = build(read({"type": "bnpo", "epsilon": 0.2}))(policy, columns=columns)["bnpo"]
    assert torch.equal(found.value, expected.value) and found.per == expected.per == "tokens"


def test_a_mixture_has_parts_of_ones_own(own):
    config = read({"type": "mix", "parts": {f"{own}:dpo": {"weight": 0.5, "beta": 0.3}, "sft": 1.0}})
    policy = scored([-1.0, -2.0], lengths=(1, 1), per_group=2)
    losses = build(config)(policy, policy)
    assert float(losses[f"{own}:dpo"].value.detach()) == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_a_recipe_with_a_loss_of_ones_own_can_be_run_again_as_it_was_written(own, tmp_path):
    recipe = load_recipe(None, ["--model", "m", "--objective.type", f"{own}:hinge", "--objective.margin", "2"])
    assert recipe.objective.options == {"margin": 2}
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe


@pytest.mark.parametrize(
    "given, says",
    [
        ({"type": "OWN:hinges"}, "has no `hinges`. Did you mean `hinge`?"),
        ({"type": "OWN:number"}, "is a int, not a function"),
        ({"type": "OWN:dpo", "betta": 1}, "has no option `betta`. Did you mean `beta`?"),
        ({"type": "OWN:dpo", "uses_reference": False}, "loads none"),
        ({"type": "OWN:hinge"}, "Write `uses_reference: false`"),
        ({"type": "OWN:wants_more"}, "wants `temperature`"),
        ({"type": "OWN:no_pairs"}, "does not take `chosen`"),
        ({"type": "nowhere.at.all:dpo"}, "there is no file nowhere.at.all"),
        ({"type": "nowhere_at_all.dpo"}, "there is no module `nowhere_at_all`"),
    ],
)
def test_what_cannot_be_a_loss_is_told_before_anything_is_loaded(own, given, says):
    given = {**given, "type": given["type"].replace("OWN", str(own))}
    with pytest.raises(RecipeError, match="Objective `") as error:
        build(read(given))
    assert says in str(error.value)


@pytest.mark.parametrize("name, says", [("summed", "a tensor of shape []"), ("detached", "without gradient")])
def test_a_loss_that_returns_something_else_is_named(own, name, says):
    policy = scored([-1.0, -2.0], lengths=(1, 1), per_group=2)
    objective = build(read({"type": f"{own}:{name}"}))
    with pytest.raises(RecipeError) as error:
        objective(policy, policy)
    assert says in str(error.value)


def test_an_unknown_kind_is_refused_when_the_recipe_is_read(own):
    with pytest.raises(RecipeError, match="triples"):
        load_recipe(None, ["--objective.type", f"{own}:dpo", "--objective.kind", "triples"])
