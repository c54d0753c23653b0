"""Every `sightline` command in README.md and docs/ has flags that exist, and the README's counts are the code's."""

import re
import shlex
from pathlib import Path

import pytest

from sightline.cli.main import COMMANDS, main
from sightline.config.objective import PART_TYPES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_ELSEWHERE = {"recipe", "completion", "env", "rollout-server", "--help", "--export"}
"""What does its work while it reads its arguments, or needs vLLM; tests of its own run it."""


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's code blocks; with `…` it is a sketch and is left out."""
    blocks = re.findall(r"(?:^ {4,}.*\n)+|^```\n(?:.*\n)*?```$", page.read_text(encoding="utf-8"), re.MULTILINE)
    lines = re.sub(r"\\\n +", "", "\n".join(blocks)).splitlines()
    found = [re.match(r"[ ]*(?:[A-Z_]+=\S+ )*(?:\S+/bin/)?(sightline .*?)(?: {3,}\S.*)?$", line) for line in lines]
    texts = [match[1] for match in found if match is not None and "…" not in match[1]]
    return [shlex.split(text, comments=True)[1:] for text in texts]


CASES = [pytest.param(words, id=" ".join(words)) for page in PAGES for words in commands(page)]


class Read(BaseException):
    """The arguments were read: nothing further is done."""


@pytest.mark.parametrize("words", CASES)
def test_commands_of_the_docs_are_read(words, tmp_path, monkeypatch, capsys):
    def stop() -> None:
        raise Read

    assert words[0] in COMMANDS
    if RUN_ELSEWHERE & set(words):
        return
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name in ("recipe.yaml", "new.yaml", "R.yaml"):
        (tmp_path / name).write_text("model: m\ndata: rows.parquet\nobjective: dpo\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sightline.cli.terminal.quiet", stop)
    for check in ("refuse_missing", "refuse_unwritable"):  # the pages' files and folders are nobody's
        for command in ("train", "pairs"):
            monkeypatch.setattr(f"sightline.cli.{command}.{check}", lambda recipe: None)
    for check in ("cli.plan.refuse_no_model", "cli.rollout_server.refuse_no_model", "cli.data.refuse_no_rows"):
        monkeypatch.setattr(f"sightline.{check}", lambda name: None)
    monkeypatch.setattr("sightline.cli.arguments.state_of", lambda name: "a folder")
    with pytest.raises(Read):
        assert main(words) == 0, capsys.readouterr().err


def test_the_readme_counts_the_pair_losses():
    pairs = set(PART_TYPES) - {"sft", "dft", "kto", "bco", "sigmoid", "dpo"}
    for page in ("README.md", "docs/index.md"):
        assert f"DPO and {len(pairs)} more pair losses" in (ROOT / page).read_text(encoding="utf-8")
