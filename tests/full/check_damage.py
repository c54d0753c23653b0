"""Every file of a model, of an adapter and of a checkpoint, damaged in every way: named, or nothing changes.

A case is a command on a copy of the folder. It ends in a paragraph, or does what it does with the whole folder; a
traceback, another answer without a word, more than two minutes or 4 GiB are faults. Left out: a byte of a weight or of
a template's text that reads as another valid one, which nothing could tell without a checksum.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sightline.models.load import EMBEDDED
from tests.full.forked import Outcome, command, import_what_commands_use, report

TEXTS = (".jinja", ".md", ".yaml")
VALUES: tuple[Any, ...] = (None, "x", -1, [], {}, 1.5, True, 10**12)
"""Instead of one value of a JSON file; each key gets three of them."""
Damage = Callable[[Path], None]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """A byte in the first quarter; of safetensors in the header."""
    content = bytearray(path.read_bytes())
    place = 8 + content[0] // 2 if path.suffix == ".safetensors" else len(content) // 4
    content[place] ^= 0x08
    path.write_bytes(content)


def null(path: Path) -> None:
    path.write_text("null")


def listed(path: Path) -> None:
    path.write_text("[1, 2]")


def swapped(path: Path) -> None:
    """With the next file of the folder."""
    files = sorted(one for one in path.parent.iterdir() if one.is_file())
    path.write_bytes(files[(files.index(path) + 1) % len(files)].read_bytes())


def not_finite(path: Path) -> None:
    weights = load_file(path)
    name = sorted(weights)[len(weights) // 2]
    save_file({**weights, name: torch.full_like(weights[name], torch.nan)}, path, metadata={"format": "pt"})


DAMAGES: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": empty,
    "cut": cut,
    "flipped": flip,
    "null": null,
    "a list": listed,
    "swapped": swapped,
    "NaN": not_finite,
}


def damages_of(path: Path) -> Iterator[tuple[str, Damage]]:
    for name, damage in DAMAGES.items():
        if name != "NaN" or path.suffix == ".safetensors":
            yield name, damage
    if path.suffix == ".json" and path.name != "tokenizer.json":
        for keys, value in leaves(json.loads(path.read_text())):
            others = [one for one in VALUES if one != value or type(one) is not type(value)]
            start = crc32(".".join(map(str, keys)).encode())
            for other in (others[(start + step) % len(others)] for step in range(3)):
                yield f"{'.'.join(map(str, keys))} = {other!r}", setting(keys, other)


def leaves(tree: Any, keys: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Places of all values, groups included."""
    if keys:
        yield keys, tree
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree[:1]) if isinstance(tree, list) else ():
        yield from leaves(value, (*keys, key))


def setting(keys: tuple[str | int, ...], value: Any) -> Damage:
    def damage(path: Path) -> None:
        tree = json.loads(path.read_text())
        inside = tree
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value
        path.write_text(json.dumps(tree))

    return damage


class Commands:
    """What is asked of a folder, and what each command says of the whole one."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.image = work / "image.png"
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(self.image)

    def generate(self, folder: Path) -> tuple[Outcome, str]:
        question = ["--image", str(self.image), "--prompt", "Describe this image.", "--max-new-tokens", "12", "--json"]
        outcome = command(["generate", str(folder), *question], self.work / "log")
        answers = [line for line in outcome.said.splitlines() if line.startswith("[")]
        return outcome, "".join(answers)

    def train(self, folder: Path) -> tuple[Outcome, str]:
        run = self.work / "run"
        shutil.rmtree(run, ignore_errors=True)
        outcome = command(["train", *TRAIN, "--model", str(folder), "--output-dir", str(run)], self.work / "log")
        lines = (run / "metrics.jsonl").read_text().splitlines() if outcome.code == 0 else []
        return outcome, str([found["loss"] for found in map(json.loads, lines) if "loss" in found] or "")

    def evaluate(self, folder: Path) -> tuple[Outcome, str]:
        stored = self.work / "scores"
        shutil.rmtree(stored, ignore_errors=True)
        asked = ["--task", "scenes", "--limit", "4", "--max-new-tokens", "12", "--output", str(stored), "--json"]
        outcome = command(["evaluate", str(folder), *asked], self.work / "log")
        return outcome, "".join(line for line in outcome.said.splitlines() if "metrics" in line or "value" in line)

    def export(self, folder: Path) -> tuple[Outcome, str]:
        out = self.work / "exported"
        shutil.rmtree(out, ignore_errors=True)
        outcome = command(["export", str(folder), str(out), "--dtype", "float32"], self.work / "log")
        weights = out / "model.safetensors"
        return outcome, str(crc32(weights.read_bytes())) if outcome.code == 0 else ""


TRAIN = [
    "--data", "scenes", "--data.scenes", "{images: 8}", "--objective.type", "dpo", "--lora.r", "4", "--max-steps", "1",
    "--per-device-train-batch-size", "2", "--learning-rate", "0.01", "--dataloader-num-workers", "0", "--use-cpu",
]  # fmt: skip


def run_cases(whole: Path, commands: Commands, others: list[str], capsys: pytest.CaptureFixture, title: str) -> None:
    """Every damage of every file of the folder by `generate`, and every fifth by one of the other commands, too."""
    expected: dict[str, str] = {}
    outcomes: dict[str, str] = {}
    faults: list[str] = []
    files = [path for path in sorted(whole.iterdir()) if path.is_file()]
    for path in files:
        for number, (name, damage) in enumerate(damages_of(path)):
            asked = ["generate"] + ([others[(number // 5) % len(others)]] if number % 5 == 0 else [])
            for what in asked:
                if what not in expected:
                    expected[what] = getattr(commands, what)(whole)[1]
                    assert expected[what]
                copy = commands.work / whole.name
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(whole, copy)
                damage(copy / path.name)
                outcome, found = getattr(commands, what)(copy)
                label = f"{what}: {path.name}: {name}"
                is_silent = outcome.code == 0 and found != expected[what] and not is_other_setting(path, name)
                outcomes[label] = "silent" if is_silent else outcome.kind
                if outcome.is_fault or is_silent:
                    faults.append(f"{label}: {outcomes[label]}: {outcome.complaint[:500]}")
    with capsys.disabled():
        report(title, outcomes)
        print("\n".join(faults))
    assert not faults


def is_other_setting(path: Path, name: str) -> bool:
    """A valid setting or text that is merely another one, which nobody could tell from what was meant."""
    return name == "flipped" and path.suffix in (*TEXTS, ".json")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    import_what_commands_use()
    return Commands(tmp_path_factory.mktemp("work"))


def test_every_damage_of_a_model_folder(commands, tmp_path, capsys):
    whole = Path(shutil.copytree(EMBEDDED, tmp_path / "model"))
    run_cases(whole, commands, ["train", "evaluate", "export"], capsys, "Damages of a model folder")


def test_every_damage_of_an_adapter_folder(commands, tmp_path, capsys):
    whole = tmp_path / "adapter"
    made = command(["train", *TRAIN, "--model", "embedded", "--output-dir", str(whole)], tmp_path / "log")
    assert made.code == 0, made.said
    run_cases(whole, commands, ["evaluate", "export"], capsys, "Damages of an adapter folder")
