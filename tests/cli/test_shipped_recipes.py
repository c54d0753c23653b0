"""The recipes come with the package: they are listed, shown and copied, and what is copied runs."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.recipes import FOLDER, name_of, shipped

Printed = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).parents[2]


def test_all_recipes_of_the_repository_are_in_the_package(capsys: Printed) -> None:
    assert main(["recipe", "list", "--json"]) == 0
    purposes = json.loads(capsys.readouterr().out)
    folder = REPOSITORY / "recipes"
    assert set(purposes) == {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}
    assert [name_of(path) for path in shipped() if path.read_bytes()] == list(purposes)
    assert purposes["smolvlm_dpo"].startswith("DPO of SmolVLM (2.2B)")
    assert purposes["accelerate/fsdp2"].endswith("spread over them (FSDP2).")
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
    assert main(["recipe", "copy", "accelerate/fsdp2", "zero3"]) == 0
    for name in ("fsdp2", "zero3"):  # where its heading and the messages of `engine` name it
        copied = (tmp_path / "recipes" / "accelerate" / f"{name}.yaml").read_text()
        assert f"--config_file recipes/accelerate/{name}.yaml" in copied
    assert main(["recipe", "copy", "scenes_dpo"]) == 2
    assert "recipes/scenes_dpo.yaml exists already" in capsys.readouterr().err


def test_mistakes_are_named(capsys: Printed) -> None:
    assert main(["recipe", "show", "smolvm_dpo"]) == 2
    assert "Did you mean smolvlm_dpo?" in capsys.readouterr().err
    assert main(["train", "recipes/nothing.yaml"]) == 2
    assert "`sightline recipe list` shows" in capsys.readouterr().err


def test_a_wheel_holds_every_recipe_and_every_file_that_is_no_code(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("src", "recipes"):
        left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, source / name, symlinks=True, ignore=left_out)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = source.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    package = REPOSITORY / "src"
    files = [path for path in (package / "sightline").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    recipes = [package / "sightline" / "recipes" / path.relative_to(FOLDER) for path in shipped()]
    assert {path.relative_to(package).as_posix() for path in (*files, *recipes)} <= held
