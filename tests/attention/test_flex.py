"""FlexAttention's block mask says what the dense mask says, and the kernel under it gives the plain log-probs (CPU)."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import flex_attention as kernel
from transformers import LlamaModel
from transformers.integrations import flex_attention as integration

from sightline.attention import flex
from sightline.errors import ModelError
from sightline.forward import plain
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import prefix, visible
from sightline.models.families.find import family_of
from tests.layout.written import write_group
from tests.loaded import Loaded

Load = Callable[..., Loaded]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("block", [-1, 0], ids=["causal", "two-way"])
def test_the_block_mask_is_the_dense_one(window: int | None, block: int) -> None:
    groups = [write_group([1] * n, [2] * 4, [3] * 6, block=[block] * n) for n in (9, 3, 150)]
    batch = flex.filled_up(prefix.lay_out(groups, 80))
    rows, length = batch.input_ids.shape
    assert length % flex.BLOCK == 0
    sees = flex.block_mask(batch, window).mask_mod
    axes = torch.meshgrid(torch.arange(rows), torch.arange(length), torch.arange(length), indexing="ij")
    assert torch.equal(sees(axes[0], torch.tensor(0), axes[1], axes[2]), visible(batch, window))


def test_a_model_whose_attention_cannot_be_replaced_is_refused_in_one_paragraph(
    loaded: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaModel, "_supports_attention_backend", False)
    with pytest.raises(ModelError, match=r"flex_attention.* cannot take.*Leave it out for `auto`"):
        loaded("llava", attn_implementation="flex_attention")


@pytest.mark.parametrize("name", ["llava", "internvl", "gemma3", "paligemma2", "idefics2_window", "qwen2_5_vl"])
def test_log_probs_under_flex_attention_equal_plain_forwards(
    loaded: Load, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # compiling takes a minute a family; the kernel's uncompiled form has the same rule
    monkeypatch.setattr(integration.WrappedFlexAttention, "__call__", lambda self: kernel.flex_attention)
    usual, model = loaded(name), loaded(name, attn_implementation="flex_attention").model
    assert family_of(model).text_config._attn_implementation in flex.NAMES
    groups = [usual.group(lengths=(7, 1, 11)), usual.group(seed=1, lengths=(4, 9), sizes=((90, 40),))]
    with torch.no_grad():
        model_type = family_of(model).name
        expected = torch.cat([logp for g in groups for logp in plain.log_probs(usual.model, g, model_type)])
        found = log_probs(model, prefix.lay_out(groups), groups=groups, features=encode(model, groups)).logp
    assert (found - expected).abs().max() <= 1e-5
