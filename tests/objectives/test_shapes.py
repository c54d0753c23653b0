"""Shapes that torch would broadcast without a word are refused by the checked signatures."""

import pytest
import torch

from sightline.objectives.dpo import dpo_loss
from sightline.objectives.kto import kto_loss
from sightline.objectives.simpo import simpo_loss


def test_a_reference_of_one_pair_is_not_broadcast_against_four():
    four, one = torch.zeros(4), torch.zeros(1)
    with pytest.raises(Exception, match="ref_chosen"):
        dpo_loss(four, four, one, one, beta=0.1)


def test_lengths_of_one_pair_are_not_broadcast_against_four():
    four, one = torch.ones(4), torch.ones(1)
    with pytest.raises(Exception, match="length"):
        simpo_loss(four, four, one, one, beta=2.0, gamma=1.0)


def test_a_kl_estimate_is_a_scalar():
    four = torch.zeros(4)
    with pytest.raises(Exception, match="kl"):
        kto_loss(four, four, four > 0, torch.zeros(1), beta=0.1)
