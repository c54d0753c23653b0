"""The documentation: every page has a place, images are drawn, and no page asks the outside."""

import dataclasses
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

import sightline as sl

ROOT = Path(__file__).parents[2]
ASKS = re.compile(
    r"""<(?:script|img|iframe|source|video)[^>]+src=["'](?:https?:)?//|"""
    r"""<link[^>]+rel=["'](?:stylesheet|preconnect|preload|icon|modulepreload)["'][^>]+href=["'](?:https?:)?//"""
)
STYLE_ASKS = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""")


class Nav(yaml.SafeLoader):
    """mkdocs.yml without its Python tags."""


Nav.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def pages(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [page for part in inner for page in pages(part)]


def test_every_page_has_a_place_in_the_menu():
    menu = pages(yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=Nav)["nav"])
    written = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert written == set(menu) and len(menu) == len(set(menu))


def test_notebooks_are_kept_without_outputs():
    import nbformat

    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [path.stem for path in notebooks] == ["01_align_a_vlm", "02_mpo", "03_reward_and_grpo"]
    for path in notebooks:
        assert path.stat().st_size < 20_000
        notebook = nbformat.read(path, as_version=4)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
        assert f"notebooks/{path.name}" in (ROOT / "docs" / "notebooks.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_no_page_asks_the_outside(site):
    html = list(site.rglob("*.html"))
    assert len(html) > 12
    assert not [path for path in html if ASKS.search(path.read_text())]
    assert not [path for path in site.rglob("*.css") if STYLE_ASKS.search(path.read_text())]


def groups(found, kind) -> set[str]:
    """The dataclass and all that its fields can hold, by their full names."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not dataclasses.is_dataclass(kind) or name in found:
        return found
    found.add(name)
    hints = typing.get_type_hints(kind, include_extras=True)
    waiting = list(hints.values())
    while waiting:
        one = waiting.pop()
        waiting += typing.get_args(one)
        if isinstance(one, type):
            groups(found, one)
    return found


def test_the_api_has_every_public_name_and_every_group_of_a_recipe(site):
    html = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    names = {f"{getattr(sl, name).__module__}.{name}" for name in sl.__all__ if name != "__version__"}
    named = names | groups(set(), sl.Recipe)
    assert len(named) > 50, "objectives and samplers are among them"
    missing = [name for name in sorted(named) if f'id="{name}"' not in html]
    assert not missing


def test_images_and_docstrings_are_there(site):
    idea = (site / "how-it-works.html").read_text()
    assert "images/layout.svg" in idea and (site / "images" / "layout.svg").stat().st_size > 10_000
    assert "strength of the pull towards the reference" in (site / "api" / "objectives.html").read_text()
    assert "\\|" not in re.sub(r"<pre.*?</pre>", "", (site / "objectives.html").read_text(), flags=re.DOTALL)


def test_files_of_the_repository_that_pages_name_are_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"\b(?:tests|src)/[\w/.]*\w", page.read_text())}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_map_of_the_packages_is_whole():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.partition("## Where things are")[2].partition("## What to test")[0]
    rows = re.findall(r"^\| (`[^|]+?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    source = ROOT / "src" / "sightline"
    packages = {path.parent.name for path in source.glob("*/__init__.py")}
    modules = {path.stem for path in source.glob("*.py")} - {"__init__"}
    assert named == packages | modules
