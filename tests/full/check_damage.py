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
from tests.full.forked import Outcome, command, import_what_is_used, note, report

TEXTS = (".jinja", ".md", ".yaml")
VALUES: tuple[Any, ...] = (None, "x", -1, [], {}, 1.5, True, 10**12)
"""Instead of one value of a JSON file; each key gets two of them."""
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
            for other in (others[(start + step) % len(others)] for step in range(2)):
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
        image = work / "image.png"
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(image)
        self.question = ["--image", str(image), "--prompt", "Describe this image.", "--max-new-tokens", "12", "--json"]
        self.argv: dict[str, Callable[[Path], list[str]]] = {
            "generate": lambda folder: ["generate", str(folder), *self.question],
            "train": lambda folder: ["train", *TRAIN, *ONE_STEP, "--model", str(folder), "--output-dir", self.out],
            "evaluate": lambda folder: ["evaluate", str(folder), *SCORES, "--output", self.out],
            "export": lambda folder: ["export", str(folder), self.out, "--dtype", "float32"],
        }

    @property
    def out(self) -> str:
        """A folder that is not there."""
        shutil.rmtree(self.work / "out", ignore_errors=True)
        return str(self.work / "out")

    def ask(self, what: str, folder: Path) -> tuple[Outcome, str]:
        """How a command ends on a folder, and what it computed."""
        outcome = command(self.argv[what](folder), self.work / "log")
        if outcome.code != 0:
            return outcome, ""
        lines = outcome.said.splitlines()
        match what:
            case "train":
                metrics = (self.work / "out" / "metrics.jsonl").read_text().splitlines()
                return outcome, str([found["loss"] for found in map(json.loads, metrics) if "loss" in found])
            case "export":
                return outcome, str(crc32((self.work / "out" / "model.safetensors").read_bytes()))
            case "evaluate":
                return outcome, "".join(line for line in lines if '"value"' in line or '"mean"' in line)
        return outcome, "".join(line for line in lines if line.startswith("["))


TRAIN = [
    "--data", "scenes", "--data.scenes", "{images: 8}", "--objective.type", "dpo", "--lora.r", "4",
    "--per-device-train-batch-size", "2", "--learning-rate", "0.01", "--dataloader-num-workers", "0", "--use-cpu",
]  # fmt: skip
ONE_STEP = ["--max-steps", "1"]
SCORES = ["--task", "scenes", "--limit", "4", "--max-new-tokens", "12", "--json"]


def run_cases(whole: Path, commands: Commands, others: list[str], title: str) -> None:
    """Every damage of every file of the folder by `generate`, and every seventh by one of the other commands, too."""
    expected: dict[str, str] = {}
    outcomes: dict[str, str] = {}
    faults: list[str] = []
    files = [path for path in sorted(whole.iterdir()) if path.is_file()]
    for path in files:
        for number, (name, damage) in enumerate(damages_of(path)):
            asked = ["generate"] + ([others[(number // 7) % len(others)]] if number % 7 == 0 else [])
            for what in asked:
                copy = commands.work / whole.name
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(whole, copy)
                if what not in expected:
                    expected[what] = commands.ask(what, copy)[1]
                    assert expected[what]
                damage(copy / path.name)
                outcome, found = commands.ask(what, copy)
                label = f"{what}: {path.name}: {name}"
                is_silent = outcome.code == 0 and found != expected[what] and not is_other_setting(path, name)
                outcomes[label] = "silent" if is_silent else outcome.kind
                if outcome.is_fault or is_silent:
                    note(faults, f"{label}: {outcomes[label]}: {outcome.complaint[:500]}")
    report(title, outcomes)
    assert not faults


def is_other_setting(path: Path, name: str) -> bool:
    """A number or a text that is merely another one, which nobody could tell from what was meant."""
    if name == "flipped":
        return path.suffix in (*TEXTS, ".json")
    place, equals, value = name.rpartition(" = ")
    if not equals or path.suffix != ".json":
        return False
    inside = json.loads(path.read_text())
    for key in place.split("."):
        inside = inside[int(key) if isinstance(inside, list) else key]
    if isinstance(inside, list) and inside:
        inside = inside[0]  # a number for each channel may be one for all
    return type(inside) in (int, float) and value in ("-1", "1.5", str(10**12))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    made = Commands(tmp_path_factory.mktemp("work"))
    for argv in made.argv.values():
        assert import_what_is_used([*argv(EMBEDDED)], made.work / "log").code == 0
    return made


def test_every_damage_of_a_model_folder(commands, tmp_path):
    whole = Path(shutil.copytree(EMBEDDED, tmp_path / "model"))
    run_cases(whole, commands, ["train", "evaluate", "export"], "Damages of a model folder")


def test_every_damage_of_an_adapter_folder(commands, tmp_path):
    whole = tmp_path / "adapter"
    argv = ["train", *TRAIN, "--max-steps", "1", "--model", "embedded", "--output-dir", str(whole)]
    made = command(argv, tmp_path / "log")
    assert made.code == 0, made.said
    run_cases(whole, commands, ["evaluate", "export"], "Damages of an adapter folder")


def test_every_damage_of_a_checkpoint(commands, tmp_path):
    """Resuming from it ends in the weights of the run that was never stopped, or is refused."""
    whole = tmp_path / "run"
    flags = [*TRAIN, "--model", "embedded", "--output-dir"]
    steps = ["--max-steps", "2", "--save-steps", "1"]
    made = command(["train", *flags, str(whole), *steps], tmp_path / "log")
    assert made.code == 0, made.said
    expected = (whole / "adapter_model.safetensors").read_bytes()
    for name in ("sightline.json", "adapter_model.safetensors"):
        (whole / name).unlink()  # as a run that was stopped
    shutil.rmtree(whole / "checkpoint-2")
    control = Path(shutil.copytree(whole, commands.work / "control"))
    resumed = command(["train", *flags, str(control), *steps, "--resume"], commands.work / "log")
    assert resumed.code == 0 and (control / "adapter_model.safetensors").read_bytes() == expected, resumed.said
    outcomes, faults = {}, []
    for path in sorted((whole / "checkpoint-1").iterdir()):
        listed_with_checksum = path.name != "checkpoint.json"
        for number, (name, damage) in enumerate(damages_of(path)):
            if listed_with_checksum and number % 4 != crc32(path.name.encode()) % 4:
                continue
            copy = commands.work / "resumed"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(whole, copy)
            damage(copy / "checkpoint-1" / path.name)
            outcome = command(["train", *flags, str(copy), *steps, "--resume"], commands.work / "log")
            weights = copy / "adapter_model.safetensors"
            is_silent = outcome.code == 0 and weights.read_bytes() != expected
            label = f"{path.name}: {name}"
            outcomes[label] = "silent" if is_silent else outcome.kind
            if outcome.is_fault or is_silent:
                note(faults, f"resume: {label}: {outcomes[label]}: {outcome.complaint[:500]}")
    report("Damages of a checkpoint", outcomes)
    assert not faults
