"""What no code foresaw ends in one paragraph; a closed pipe and Ctrl-C in silence."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import env
from sightline.cli.main import main
from sightline.training.checkpoint import run_folder


def test_an_unforeseen_exception_is_one_paragraph_and_its_traceback_is_kept_in_a_file(monkeypatch, capsys):
    monkeypatch.setattr(env, "environment", lambda: {}["no such key"])
    assert main(["env", "--json"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said
    assert "`sightline env --json` ended in KeyError ('no such key') in sightline.cli.env.run, line " in said
    assert "This is a fault of Sightline" in said and "How do I report a bug?" in said
    kept = Path(re.search(r"is in (\S+\.txt)\.", said)[1])  # type: ignore[index]
    assert "Traceback" in kept.read_text() and "KeyError" in kept.read_text()
    kept.unlink()


def test_the_file_that_was_being_read_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sightline.config.plain_yaml._parse", lambda text, complaint: 1 / 0)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("seed: 1\n")
    assert main(["train", str(recipe)]) == 70
    said = capsys.readouterr().err
    assert f"with path {str(recipe)[:80]}" in said and said.count("\n") == 1
    Path(re.search(r"is in (\S+\.txt)\.", said)[1]).unlink()  # type: ignore[index]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y.bin"), 1, "x/y.bin: No space left on device; free some"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "raise `ulimit -n`"),
        (MemoryError(), 1, "asked for more memory than this machine has left"),
        (KeyboardInterrupt(), 130, "stopped"),
        (RecursionError("maximum recursion depth exceeded"), 70, "fault of Sightline"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 70, "fault of Sightline"),  # a worker's, for stdout is open
    ],
)
def test_what_the_machine_refuses_is_no_fault(error, code, said, monkeypatch, capsys):
    def environment() -> None:
        raise error

    monkeypatch.setattr(env, "environment", environment)
    assert main(["env"]) == code
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1 and "Traceback" not in message
    for name in re.findall(r"is in (\S+\.txt)\.", message):
        Path(name).unlink()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help", "all"], ["completion", "bash"]])
def test_a_pipe_that_is_closed_early_is_quiet(words):
    code = f"import sys; from sightline.cli.main import main; sys.exit(main({words!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 128 + signal.SIGPIPE


def test_a_full_disk_after_standard_output_is_told_once():
    code = "import sys; from sightline.cli.main import main; sys.exit(main(['--help']))"
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "No space left" in result.stderr


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_a_run_that_a_fault_ends_before_it_begins_leaves_no_folder(error, tmp_path):
    from sightline.recipe import load_recipe

    recipe = load_recipe(None, ["--model", "m", "--data", "d", "--output-dir", str(tmp_path / "run")])
    with pytest.raises(type(error)), run_folder.opened_run_folder(recipe):
        assert (tmp_path / "run" / "recipe.yaml").exists()
        raise error
    assert os.listdir(tmp_path) == []
