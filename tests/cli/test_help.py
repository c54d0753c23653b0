"""Help pages fit 80 columns, have colours only where they are wanted, and shells complete what they say."""

import subprocess

import pytest
import shtab

from sightline.cli import completion
from sightline.cli.main import COMMANDS, main

PAGES = [[name] for name in COMMANDS] + [["data", n] for n in ("show", "check", "convert", "split")]
PAGES += [["recipe", name] for name in ("list", "show", "copy", "from-trl", "from-llamafactory")]


def page(command, capsys):
    try:
        assert main([*command, "--help"]) == 0
    except SystemExit as left:
        assert left.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("command", PAGES, ids=" ".join)
def test_every_help_page_fits_eighty_columns(command, capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    lines = page(command, capsys).splitlines()
    assert lines and max(map(len, lines)) <= 80
    assert not any("\033" in line for line in lines)


@pytest.mark.parametrize("command", [["evaluate"], ["quickstart"], ["env"], ["data", "check"]], ids=" ".join)
def test_colours_only_where_they_are_wanted(command, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\033[36m--" in page(command, capsys)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in page(command, capsys)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "sightline.bash"
    path.write_text(shtab.complete(completion.everything(), "bash"))
    return path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sightline tra", ["train"]),
        ("sightline train R.yaml --learning-r", ["--learning-rate"]),
        ("sightline train R.yaml --objective.bet", ["--objective.beta"]),
        ("sightline train --rehe", ["--rehearse"]),
        ("sightline plan R.yaml --gpu", ["--gpu", "--gpus"]),
        ("sightline data ch", ["check"]),
        ("sightline data check rows.parquet --num", ["--num-proc"]),
        ("sightline recipe from-trl --meth", ["--method"]),
        ("sightline evaluate --res", ["--responses"]),
        ("sightline recipe show smolvlm_s", ["smolvlm_sft"]),
        ("sightline completion f", ["fish"]),
        ("sightline rollout-server R.yaml --sampler.u", ["--sampler.url"]),
        ("sightline train --nam", []),
        ("sightline train R", ["R.yaml"]),
    ],
)
def test_bash_completes(line, expected, script, tmp_path):
    (tmp_path / "R.yaml").touch()
    words = line.split()
    setting = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
    command = f'source {script}; {setting}; _shtab_sightline; printf "%s\\n" "${{COMPREPLY[@]}}"'
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh", "powershell"])
def test_the_other_shells_get_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS) and "rehearse" in told and "objective.beta" in told


def test_a_shell_that_is_not_known_is_refused():
    assert main(["completion", "csh"]) == 2
