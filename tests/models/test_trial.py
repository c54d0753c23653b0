"""Chat templates, tokenizers and image settings of others: named where they never get done, or where they cannot be."""

import json
import os
import shutil
from pathlib import Path

import pytest

from sightline.config import ModelConfig
from sightline.data.render.render import Renderer
from sightline.errors import ModelError
from sightline.models import trial
from sightline.models.load import EMBEDDED, load_processor
from tests.data.processors import llava

LOOPS = "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endfor %}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(EMBEDDED, copy)
    return copy


def load(folder: Path) -> Renderer:
    return Renderer(load_processor(ModelConfig(name=str(folder))))


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n - 1) if n else '' }}{{ m(n - 1) if n else '' }}{% endmacro %}{{ m(60) }}",
        # harmless for a question and an answer
        LOOPS + "{% if messages | length > 20 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
        "{% endfor %}{% endif %}",
    ],
    ids=["loops", "calls", "in a long conversation"],
)
def test_a_template_that_never_ends_is_named(folder, template, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 1)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=r"The chat template of '.*model'.* is not done after 1 s"):
        load(folder)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 2000000000 }}",
        "{{ 'x'.center(10**11) }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='x') %}{% for m in messages %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    ],
    ids=["times", "a method", "doubles", "doubles with every turn"],
)
def test_a_template_that_writes_gigabytes_is_named(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=r"The chat template of '.*model'.* takes more than 1 GiB of memory"):
        load(folder)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% include '/etc/passwd' %}", "it includes another file, which chat templates cannot"),
        ("{% import 'os' as os %}", "it includes another file, which chat templates cannot"),
        ("{{ raise_exception('\x1b[31mno system\nturn') }}", r"\\x1b\[31mno system\\nturn"),
        ("{{ 1 / 0 }}", "it fails with ZeroDivisionError"),
        ("{{ 1 + 'x' }}", "it fails with TypeError"),
        ("{% for a in range(10**9) %}x{% endfor %}", "it fails with OverflowError"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "it fails with RecursionError"),
        ("{{ strftime_now(7) }}", "it fails with TypeError"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("", "it fails with ValueError"),
        ("{% for %}", "Expected an expression"),
        ("{% for i in range(99999) %}0123456789abcdef{% endfor %}", "it makes 1,599,984 characters of 10"),
    ],
)
def test_a_template_that_fails_is_a_sentence(folder, template, said):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=f"The chat template refuses a question with an answer: {said}"):
        load(folder)


@pytest.mark.parametrize("value", [7, [], {"a": 1}, [{"name": "default", "template": 7}], True])
def test_a_template_of_another_kind_is_named(folder, value):
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": value}))
    with pytest.raises(ModelError, match=r"chat template|cannot be loaded"):
        load(folder)


def test_a_pattern_of_the_tokenizer_that_never_ends_is_named(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    endless = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [endless]}
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"The tokenizer of '.*model', given long words, (fails|is not done)"):
        load(folder)


IMAGES = [
    ("image_std", [0, 0, 0]), ("image_std", "x"), ("image_std", [1.0, float("nan"), 1.0]), ("image_mean", [True] * 3),
    ("image_mean", []), ("rescale_factor", 0), ("rescale_factor", float("inf")), ("do_resize", "no"),
    ("do_normalize", 1), ("size", {"height": 100_000, "width": 100_000}), ("size", {"height": -5, "width": 5}),
    ("crop_size", {"height": 2.5, "width": 64}), ("size", {"shortest_edge": 2**40}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), IMAGES, ids=[f"{key} {value!r:.24}" for key, value in IMAGES])
def test_an_image_setting_that_cannot_be_is_named(folder, key, value):
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"has `{key}.*expected is"):
        load(folder)


def test_what_a_trial_does_is_lost_and_what_it_says_is_kept(capfd):
    seen: list[int] = []

    def work() -> None:
        os.write(1, b"from the child")
        seen.append(1)

    trial.try_out(work, "Work", "")
    assert seen == [] and capfd.readouterr() == ("", "")
    with pytest.raises(ModelError, match=r"^Work fails: list index out of range\. Do less\.$"):
        trial.try_out(lambda: seen[0], "Work", "Do less.")


def test_good_templates_are_tried_in_silence(capfd):
    trial.try_processor(llava(), "tiny")
    assert capfd.readouterr() == ("", "")
