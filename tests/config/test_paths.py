"""Names of files and folders that cannot be, or where something else lies, told before anything heavy is imported."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.config.on_disk import refuse_missing, refuse_unwritable
from sightline.config.paths import name_of_file, name_to_write
from sightline.errors import RecipeError, UserError
from sightline.recipe import load_recipe

BASE = ["--model", "embedded", "--data", "scenes", "--objective.type", "dpo"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\0b", "holds a NUL"),
        ("x" * 256, "is too long for a name"),
        ("x/" * 2500, "is too long for a name"),
        ("~nobodyx/y", "there is no user 'nobodyx'"),
        ("   ", "is blank where a name is due"),
        ("a\ud800", "holds half a character"),
    ],
)
def test_what_can_be_no_name_is_refused(name, said):
    with pytest.raises(ValueError, match=said):
        name_of_file(name)
    with pytest.raises(ValueError, match=said):
        name_to_write(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out/\u202egnp", r"`out/\u202egnp` holds control characters"),
        ("out/a\nb", r"`out/a\nb` holds"),
        ("out/\x1b[31m", "holds control characters"),
        ("out/\u200b", "holds control characters"),
        ("${HOME}/x", "variables such as ${HOME} are not filled in"),
        ("$HOME/x", "variables such as $HOME"),
        ("", "empty"),
    ],
)
def test_a_folder_is_not_written_under_a_name_that_is_not_meant_or_not_shown_as_it_is(name, said):
    with pytest.raises(ValueError) as error:
        name_to_write(name)
    assert said in str(error.value)


def test_a_home_folder_is_spelled_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    recipe = load_recipe(None, [*BASE, "--output-dir", "~/runs/one", "--data.cache-dir", "~/cache"])
    assert (recipe.output_dir, recipe.data.cache_dir) == ("/home/me/runs/one", "/home/me/cache")
    assert name_of_file("Ünï/模型 1") == "Ünï/模型 1"


@pytest.mark.parametrize(
    "flag", ["output-dir", "data.cache-dir", "reference.path", "resume", "lora.adapter", "data.media-dir"]
)
@pytest.mark.parametrize("name", ["~nobodyx/x", "x" * 300, "a\0b", "a\udc80"])
def test_every_path_of_a_recipe_is_checked_when_it_is_read(flag, name):
    with pytest.raises(RecipeError):
        load_recipe(None, [*BASE, f"--{flag}", name])


@pytest.fixture
def there(tmp_path, monkeypatch) -> Path:
    """A folder with one of everything that is no file or folder as it should be."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jsonl")
    Path("file").write_text("x")
    Path("dangling").symlink_to("nowhere")
    Path("folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "file"], "model.name: `file` is a file"),
        (["--model", "./nowhere"], "model.name: there is no folder `./nowhere`"),
        (["--model", "/dev/null"], "model.name: `/dev/null` is neither file nor folder"),
        (["--model.revision", "main"], "`model.revision: main` names a version on the hub"),
        (["--model", "folder", "--model.revision", "main"], "but the model is a folder"),
        (["--data", "nowhere.jsonl"], "data.source: there is no file or folder 'nowhere.jsonl'"),
        (["--data", "pipe.jsonl"], "data.source: `pipe.jsonl` is neither file nor folder"),
        (["--data", "socket.jsonl"], "neither file nor folder"),
        (["--data", "/dev/null"], "neither file nor folder"),
        (["--data.eval-source", "pipe.jsonl"], "data.eval_source: `pipe.jsonl` is neither"),
        (["--data.media-dir", "file"], "`data.media_dir: file` is a file, where a folder is due"),
        (["--lora.adapter", "file"], "`lora.adapter: file` is a file"),
        (["--lora.adapter", "./nowhere"], "`lora.adapter: ./nowhere` does not exist"),
        (["--resume", "/nope/checkpoint-3"], "`resume: /nope/checkpoint-3` does not exist"),
        (["--evaluation.data", "nowhere"], "`evaluation.data: nowhere` does not exist"),
        (["--output-dir", "file"], "`output_dir: file` cannot be a folder"),
        (["--output-dir", "file/x"], "cannot be a folder"),
        (["--output-dir", "/dev/null"], "/dev/null is neither file nor folder"),
        (["--output-dir", "dangling"], "is a link to nothing"),
        (["--output-dir", "/proc/1/x"], "is the system's own"),
        (["--data.cache-dir", "file"], "`data.cache_dir: file` cannot be a folder"),
        (["--reference.type", "precomputed", "--reference.path", "file"], "`reference.path: file` cannot be a folder"),
    ],
)
def test_what_lies_where_something_else_is_due_is_named(flags, said, there):
    given = dict(zip(BASE[::2], BASE[1::2], strict=True)) | dict(zip(flags[::2], flags[1::2], strict=True))
    recipe = load_recipe(None, [word for pair in given.items() for word in pair])
    with pytest.raises(UserError) as error:
        refuse_missing(recipe)
        refuse_unwritable(recipe)
    assert said in str(error.value) and "\n" not in str(error.value)


MISTAKES = [
    ["train", "nowhere.yaml"],
    ["train", *BASE, "--learning-rat", "1"],
    ["train", *BASE, "--learning-rate", "inf"],
    ["train", *BASE, "--learning-rate"],
    ["train", "--model", "/nope", "--data", "scenes"],
    ["train", "--model", "embedded", "--data", "/nope/rows.parquet"],
    ["train", "--model", "embedded"],
    ["train", *BASE, "--output-dir", "occupied"],
    ["train", *BASE, "--output-dir", "/dev/null"],
    ["train", *BASE, "--data.scenes", "{images: many}"],
    ["train", *BASE, "--evaluation.tasks", "sceens"],
    ["plan", "--model", "/nope", "--objective.type", "dpo"],
    ["generate", "/nope", "--prompt", "What?"],
    ["evaluate", "/nope", "--task", "scenes"],
    ["data", "check", "/nope/rows.jsonl"],
    ["data", "check", "pipe.jsonl"],
    ["recipe", "from-trl", "nowhere.yaml"],
    ["recipe", "from-llamafactory", "nowhere.yaml"],
]


def test_before_a_mistake_in_a_recipe_or_a_path_is_told_nothing_heavy_is_imported(tmp_path):
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.txt").write_text("precious")
    os.mkfifo(tmp_path / "pipe.jsonl")
    code = f"""
import sys
from sightline.cli.main import main
for words in {MISTAKES!r}:
    assert main(words) == 2, words
    heavy = {{"torch", "transformers", "datasets", "peft", "accelerate"}} & sys.modules.keys()
    assert not heavy, (words, heavy)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.splitlines()) == len(MISTAKES)


@pytest.mark.parametrize(
    "words",
    [
        ["data", "convert", "rows.jsonl", "--output", "a\nb"],
        ["data", "show", "rows.jsonl", "--html", "\u202elmth.x"],
        ["recipe", "copy", "scenes_dpo", "--output", "x" * 300],
        ["export", "run", "~nobodyx/out"],
        ["evaluate", "embedded", "--output", "$HOME/x"],
    ],
)
def test_what_other_commands_write_has_a_name_that_is_meant(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
