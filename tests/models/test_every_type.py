"""A fixed third of the table in docs/models.md is what comes out today; `make full-models` proves all of it."""

from pathlib import Path

import pytest
from benchmarks.models import line, written
from transformers import AutoConfig

from benchmarks import kernels
from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.load import read_config
from sightline.rehearsal.every_type import TYPES, prove

SLOW = {"deepseek_vl_hybrid", "gemma3n", "gemma4", "janus", "muse_spark"}
"""Models that do not get small; `make full-models` has them."""
OWN_WAY = {"chameleon", "lfm2_vl", "molmo2"}
"""Types whose family file no type of the third goes through."""


def test_the_table_has_a_row_for_every_type_of_transformers() -> None:
    assert [name for name in written() if name not in ("type", "---")] == list(TYPES)


def test_the_table_of_attention_kernels_is_what_the_code_chooses() -> None:
    assert kernels.written() == kernels.table(), "write it anew: `python -m benchmarks.kernels`"


@pytest.mark.parametrize("model_type", [name for name in TYPES if name in {*TYPES[::3], *OWN_WAY} - SLOW])
def test_a_type_is_what_the_table_says(model_type: str, tmp_path: Path) -> None:
    assert line(prove(model_type, tmp_path / "model")) == written()[model_type]


@pytest.mark.parametrize("both_ways", [None, "vision"], ids=["E2B and E4B", "larger"])
def test_gemma_4_shares_prompts_with_layers_that_share_keys(both_ways: str | None, tmp_path: Path) -> None:
    """Images of the larger sizes see themselves both ways."""
    found = prove("gemma4", tmp_path / "model", {"text_config.use_bidirectional_attention": both_ways})
    assert (found.layout, found.reason) == ("shared prefix", "")


@pytest.mark.parametrize("model_type, why", [("florence2", "an encoder-decoder"), ("pi0", "a policy for robots")])
def test_what_cannot_be_trained_is_refused_by_its_config(model_type: str, why: str, tmp_path: Path) -> None:
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"cannot be trained here: it is {why}"):
        read_config(ModelConfig(name=str(tmp_path)))
