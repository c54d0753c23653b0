"""Every family on the device: the shared prefix equals one forward a response, values and gradients, in each kernel."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sightline.config import LoraConfig, ModelConfig
from sightline.errors import ModelError
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.types import Group
from tests.forward.test_equivalence import SHARED, gradients, worst_gradient
from tests.groups import make_group

KERNELS = ["auto", "flex_attention"]
LOGP, GRADIENT = 1e-4, 1e-3


def prepared(folder: Path, attention: str, device: str) -> tuple[nn.Module, list[Group]]:
    config = ModelConfig(name=str(folder), attn_implementation=attention)
    torch.manual_seed(0)
    model = add_lora(load_model(config), LoraConfig(r=4)).to(device)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    processor = load_processor(config)
    groups = [
        make_group(processor, sizes=((50, 70),), lengths=(7, 1, 11), seed=0),
        make_group(processor, sizes=((90, 40), (30, 80)), lengths=(4, 9), seed=1, question="Describe the image."),
    ]
    return model, [family_of(model).place(group) for group in groups]


def shared(model: nn.Module, groups: list[Group]) -> Tensor:
    batch = prefix.lay_out(groups)
    return log_probs(model, batch, groups=groups, features=encode(model, groups)).logp


def separate(model: nn.Module, groups: list[Group]) -> Tensor:
    """One forward a response: a group of one response each time."""
    alone = [group.keep([r]) for group in groups for r in range(len(group.responses))]
    return torch.cat([shared(model, [one]) for one in alone])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", SHARED)
def test_the_shared_prefix_equals_separate_forwards(
    tiny_model: Callable[[str], Path], device: str, name: str, kernel: str
) -> None:
    if device == "cpu" and kernel == "flex_attention":
        pytest.skip("FlexAttention has no backward on a CPU; tests/attention/test_flex.py compares its values there")
    try:
        model, groups = prepared(tiny_model(name), kernel, device)
    except ModelError as refused:
        assert kernel in str(refused)
        return
    found, expected = shared(model, groups), separate(model, groups)
    assert (found - expected).abs().max() <= LOGP
    assert worst_gradient(gradients(model, found), gradients(model, separate(model, groups))) <= GRADIENT
