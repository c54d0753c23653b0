"""A fixed third of the table in docs/models.md is what comes out today; `make full-models` proves all of it."""

from pathlib import Path

import pytest
from benchmarks.models import line, written

from sightline.rehearsal.every_type import TYPES, prove

SLOW = {"deepseek_vl_hybrid", "gemma4", "janus", "muse_spark"}
"""Models that do not get small; `make full-models` has them."""


def test_the_table_has_a_row_for_every_type_of_transformers() -> None:
    assert [name for name in written() if name not in ("type", "---")] == list(TYPES)


@pytest.mark.parametrize("model_type", [name for name in TYPES[::3] if name not in SLOW])
def test_a_type_is_what_the_table_says(model_type: str, tmp_path: Path) -> None:
    assert line(prove(model_type, tmp_path / "model")) == written()[model_type]
