"""The documentation: every page has a place, pictures are drawn, and no page asks the outside."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def test_pictures_and_docstrings_are_there(site):
    idea = (site / "the-one-idea.html").read_text()
    assert "images/layout.svg" in idea and (site / "images" / "layout.svg").stat().st_size > 10_000
    assert "strength of the pull towards the reference" in (site / "api" / "objectives.html").read_text()
    assert "\\|" not in re.sub(r"<pre.*?</pre>", "", (site / "objectives.html").read_text(), flags=re.DOTALL)
