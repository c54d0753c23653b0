"""All of the table in docs/models.md, proved again."""

from pathlib import Path

import pytest
from benchmarks.models import line, written

from sightline.rehearsal.every_type import TYPES, prove


@pytest.mark.parametrize("model_type", TYPES)
def test_a_type_is_what_the_table_says(model_type: str, tmp_path: Path) -> None:
    assert line(prove(model_type, tmp_path / "model")) == written()[model_type]
