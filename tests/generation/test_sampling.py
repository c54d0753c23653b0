"""How a token is drawn: as often as it is likely, by the numbers or the random state that are given."""

import torch

from sightline.generation.sampling import SamplingSettings, by_global_state, draw, where_passed


def test_a_token_is_drawn_as_often_as_it_is_likely_and_a_banned_one_never():
    """Numbers that stand evenly in [0, 1) give every token its share, to one part in as many."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0, 1.0, -30.0])
    settings, count = SamplingSettings(max_new_tokens=1, temperature=0.7), 5000
    numbers = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    chosen, logp = draw(logits.expand(count, -1), [2], settings, lambda weights: where_passed(weights, numbers))
    allowed = torch.tensor([True, True, False, True, True, True])
    expected = torch.where(allowed, logits / 0.7, -torch.inf).softmax(-1)
    assert (torch.bincount(chosen, minlength=6) / count - expected).abs().max() <= 1 / count
    assert torch.allclose(logp, (logits / 0.7).log_softmax(-1)[chosen])
    ends = torch.tensor([0.0, 1 - 2.0**-24], dtype=torch.float64)
    first, last = draw(logits.expand(2, -1), [0, 5], settings, lambda weights: where_passed(weights, ends))[0]
    assert (int(first), int(last)) == (1, 4)


def test_rows_that_have_left_do_not_change_what_the_others_draw():
    weights = torch.rand(6, 50, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    expected = torch.multinomial(weights, 1)[:, 0]
    row = torch.tensor([0, 3, 4])
    torch.manual_seed(1)
    assert by_global_state(6)(weights[row], row, 0).tolist() == expected[row].tolist()
