"""The command itself: help, exit codes, unknown commands."""

import re
import resource
import subprocess
import sys

import pytest

from sightline.cli.main import COMMANDS, main, usage
from sightline.config.objective import PART_TYPES


def test_help_imports_nothing_heavy_and_is_quick():
    started = seconds_of_children()
    code = "import sys; from sightline.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sightline" in result.stdout
    assert seconds_of_children() - started < 1.0


def seconds_of_children() -> float:
    """CPU time of processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_fits_eighty_columns_and_names_every_command():
    assert max(len(line) for line in usage().splitlines()) <= 80
    assert all(name in usage() for name in COMMANDS)


def test_help_of_train_is_short_and_has_every_field_or_its_type(capsys):
    assert main(["train", "--help"]) == 0
    page = capsys.readouterr().out
    assert max(len(line) for line in page.splitlines()) <= 80 and len(page.splitlines()) < 400
    assert "--learning-rate X" in page and "--data.val-size" in page and "--evaluation.every N" in page
    for name in PART_TYPES:
        assert re.search(rf"^  (\w+, )*{name}(, \w+)* +\S", page, re.MULTILINE), name


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("objective.mpo", "--objective.quality-weight X"),
        ("objective.sigmoid", "arXiv:2305.18290"),
        ("data", "--data.val-size"),
        ("beta", "Strength of the pull towards the reference"),
        ("--learning-rate", "Peak learning rate"),
        ("reference.update_every", "TR-DPO"),
        ("all", "--objective.desirable-weight X"),
    ],
)
def test_help_of_a_topic(capsys, topic, said):
    assert main(["train", "--help", topic]) == 0
    page = capsys.readouterr().out
    assert said in page and max(len(line) for line in page.splitlines()) <= 80


def test_help_of_what_there_is_not_names_the_nearest(capsys):
    assert main(["train", "--help", "objective.dpoo"]) == 2
    assert "Did you mean `objective.dpo`?" in capsys.readouterr().err


def test_an_unknown_command_is_the_users_mistake(capsys):
    assert main(["trian"]) == 2
    assert "Did you mean `sightline train`?" in capsys.readouterr().err


def test_a_wrong_flag_exits_with_two_and_no_traceback(capsys):
    assert main(["train", "--max-step", "3"]) == 2
    printed = capsys.readouterr().err
    assert "Did you mean `max_steps`?" in printed and "Traceback" not in printed


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_printed(flag, capsys):
    assert main([flag]) == 0
    assert "sightline" in capsys.readouterr().out
