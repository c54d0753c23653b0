"""BCO's running shift: state goes in and out, and is the mean of all rewards so far."""

import pytest
import torch

from sightline.objectives.bco import RunningRewards
from tests.objectives.every import build_from
from tests.objectives.made_steps import columns_of, make_groups, make_log_probs


def steps_of(objective, num: int):
    groups = make_groups(3, objective)
    return [
        (make_log_probs(groups, seed=2 * i), make_log_probs(groups, seed=2 * i + 1), columns_of(groups))
        for i in range(num)
    ]


def test_the_shift_is_the_mean_of_the_classes_means_over_all_steps():
    running = RunningRewards.empty()
    assert running.shift.item() == 0.0
    running = running.add(torch.tensor([1.0, 3.0]), torch.tensor([-1.0])).add(torch.tensor([5.0]), torch.tensor([-3.0]))
    assert running.shift.item() == pytest.approx((3.0 - 2.0) / 2)
    assert RunningRewards.empty().add(torch.tensor([4.0]), torch.tensor([])).shift.item() == 4.0


@pytest.mark.parametrize(
    "options", [{"type": "bco_pair", "running_shift": True}, {"type": "bco"}, {"type": "mpo", "running_shift": True}]
)
def test_the_shift_of_a_step_includes_the_step_and_survives_a_checkpoint(options, tmp_path):
    objective = build_from(options)
    name = {"mpo": "bco_pair"}.get(options["type"], options["type"])
    state = objective.initial_state()
    rewards = []
    for policy, reference, columns in steps_of(objective, 3):
        torch.save(state, tmp_path / "state.pt")
        state = objective.update_state(torch.load(tmp_path / "state.pt"), policy, reference, columns)
        rewards.append(0.1 * (policy.sum() - reference.sum()).detach())
        shift, _ = objective(policy, reference, columns, state)[name].metrics["rewards/shift"]
        assert shift.item() == pytest.approx(torch.cat(rewards).mean().item(), abs=1e-9)


def test_a_shift_moves_the_loss_and_evaluation_does_not_move_the_shift():
    objective = build_from({"type": "bco_pair", "running_shift": True})
    (policy, reference, columns), (other, other_reference, _) = steps_of(objective, 2)
    state = objective.update_state(objective.initial_state(), policy, reference, columns)
    before = {name: value.clone() for name, value in state.items()}
    shifted = objective(other, other_reference, columns, state)["bco_pair"].value
    unshifted = objective(other, other_reference, columns)["bco_pair"].value
    assert shifted.item() != pytest.approx(unshifted.item(), abs=1e-3)
    assert all(torch.equal(before[name], state[name]) for name in state)


def test_objectives_without_state_have_none():
    objective = build_from({"type": "dpo"})
    (policy, reference, columns), _ = steps_of(objective, 2)
    assert objective.update_state(objective.initial_state(), policy, reference, columns) == {}
