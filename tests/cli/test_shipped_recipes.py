"""The recipes come with the package: they are listed, shown and copied, and what is copied runs."""

import json
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.cli.shipped_recipes import SHIPPED

Printed = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).parents[2]


def test_all_recipes_of_the_repository_are_in_the_package(capsys: Printed) -> None:
    assert main(["recipe", "list", "--json"]) == 0
    purposes = json.loads(capsys.readouterr().out)
    assert list(purposes) == sorted(path.stem for path in (REPOSITORY / "recipes").glob("*.yaml")) != []
    assert all(path.read_bytes() for path in SHIPPED.glob("*.yaml"))
    assert purposes["smolvlm_dpo"].startswith("DPO of SmolVLM (2.2B)")
    assert main(["recipe", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in purposes) and max(map(len, printed.splitlines())) <= 80


def test_a_recipe_is_shown_and_copied_to_where_its_heading_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipe", "show", "scenes_dpo"]) == 0
    shown = capsys.readouterr().out
    assert main(["recipe", "copy", "scenes_dpo", "recipes/smolvlm_dpo.yaml"]) == 0
    assert (tmp_path / "recipes" / "scenes_dpo.yaml").read_text() == shown
    assert (tmp_path / "recipes" / "smolvlm_dpo.yaml").is_file()
    assert main(["recipe", "copy", "scenes_dpo"]) == 2
    assert "recipes/scenes_dpo.yaml exists already" in capsys.readouterr().err


def test_mistakes_are_named(capsys: Printed) -> None:
    assert main(["recipe", "show", "smolvm_dpo"]) == 2
    assert "Did you mean smolvlm_dpo?" in capsys.readouterr().err
    assert main(["train", "recipes/nothing.yaml"]) == 2
    assert "`sightline recipe list` shows" in capsys.readouterr().err
