"""What docs/security.md promises."""

import re
from pathlib import Path

import pytest

from sightline.recipe import load_recipe

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_every_dependency_has_its_licence_in_the_docs():
    project = (ROOT / "pyproject.toml").read_text()
    block = project.partition("dependencies = [")[2].partition("]")[0]
    names = re.findall(r'"([A-Za-z0-9_-]+)', block)
    page = (ROOT / "docs" / "security.md").read_text().lower()
    assert len(names) > 10
    assert [name for name in names if name.lower() not in page] == []


@pytest.mark.parametrize("pattern", [r"\btorch\.(load|save)\(", r"^\s*(import|from) (pickle|dill|cloudpickle)\b"])
def test_nothing_is_pickled(pattern):
    found = [path.name for path in SOURCES if re.search(pattern, path.read_text(), re.MULTILINE)]
    assert found == []


def test_code_out_of_model_folders_is_off():
    assert load_recipe().model.trust_remote_code is False


def test_servers_listen_to_this_machine_alone_unless_told():
    from sightline.app.page import ADDRESS

    assert ADDRESS == "127.0.0.1"
    assert [path.name for path in SOURCES if "0.0.0.0" in path.read_text() and "translate" not in path.parts] == []
