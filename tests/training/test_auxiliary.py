"""What methods need beyond their rows, made from groups: neighbours' answers for KTO, weights for DDPO."""

import pytest
import torch

from sightline.errors import RecipeError
from sightline.objectives.ddpo import corrected_tokens
from sightline.objectives.roles import MISMATCHED
from sightline.training.step.auxiliary import with_auxiliary, with_corrected
from sightline.types import Group
from tests.training.runs import curve, pairs, run


def pair(name: str, chosen: list[int], rejected: list[int], weight: float = 1.0) -> Group:
    responses = (torch.tensor(chosen), torch.tensor(rejected))
    weights = tuple(torch.full((len(r),), weight) for r in responses)
    return Group(id=name, prompt_ids=torch.arange(3), responses=responses, weights=weights)


def test_tokens_in_which_the_responses_differ_are_corrected():
    chosen, rejected = corrected_tokens(torch.tensor([1, 2, 3, 4, 9]), torch.tensor([1, 7, 8, 3, 9]))
    assert chosen.tolist() == [False, True, False, True, False]
    assert rejected.tolist() == [False, True, True, False, False]


def test_corrected_tokens_weigh_more_unless_the_row_marks_its_own():
    (plain, marked) = with_corrected([pair("a", [1, 2, 9], [1, 5, 9]), pair("b", [1, 2], [3, 2], weight=2.0)], 5.0)
    assert [w.tolist() for w in plain.weights] == [[1, 5, 1], [1, 5, 1]]
    assert [w.tolist() for w in marked.weights] == [[2, 2], [2, 2]]
    group = pair("c", [1], [2])
    assert with_corrected([group], 1.0) == [group]


@pytest.mark.parametrize("sizes", [(5,), (3, 2), (1, 4), (1, 1, 3)])
def test_neighbours_lend_their_answers_however_many_processes_there_are(sizes):
    groups = [pair(str(i), [10 + i, 9], [0, 9]) for i in range(5)]
    shares, start = [], 0
    for size in sizes:
        shares.append(groups[start : start + size])
        start += size

    def gather(thing):
        return [[(g.responses[0], g.weights[0]) for g in share] for share in shares]

    roles, lent = frozenset({MISMATCHED}), []
    for index, share in enumerate(shares):
        made = with_auxiliary(share, roles, gather=gather, process_index=index)
        lent += [int(group.responses[-1][0]) for group in made]
    assert lent == [11, 10, 13, 12, 13]


def test_a_step_of_a_single_prompt_borrows_from_the_spare_one_or_is_refused():
    single, other = pair("a", [1], [2]), pair("b", [7], [8])
    (made,) = with_auxiliary([single], frozenset({MISMATCHED}), other=other)
    assert made.responses[-1].tolist() == [7]
    with pytest.raises(RecipeError, match="there is only this one"):
        with_auxiliary([single], frozenset({MISMATCHED}))


def test_a_single_row_among_two_processes_borrows_as_alone_and_the_other_goes_on():
    single, other = pair("a", [1], [2]), pair("b", [7], [8])
    shares = [[(single.responses[0], single.weights[0])], []]
    roles = frozenset({MISMATCHED})
    (made,) = with_auxiliary([single], roles, gather=lambda _: shares, process_index=0, other=other)
    assert made.responses[-1].tolist() == [7]
    assert with_auxiliary([], roles, gather=lambda _: shares, process_index=1) == []


def test_the_last_step_of_an_epoch_may_have_a_single_row(tmp_path, tiny_model):
    result = run(tmp_path / "run", tiny_model("llava"), pairs(5), objective="kto", max_steps=2)
    assert len(curve(result.folder)) == 2
