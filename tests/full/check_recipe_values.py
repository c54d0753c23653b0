"""Every field of a recipe with values that no one meant: it is accepted, or one paragraph names the key.

Fields are found by looking at the dataclasses. Of what is accepted a fixed part is planned: that takes seconds a case.
"""

import copy
import dataclasses
import math
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import yaml

from sightline.config import Recipe
from sightline.errors import UserError
from sightline.recipe import dump_recipe, load_recipe
from tests.full.forked import command, import_what_is_used, note, report

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "1e400": math.inf,
    "nan": math.nan,
    "2**63": 2**63,
    "empty": "",
    "10 kB": "x" * 10_000,
    "list": [],
    "map": {},
    "direction": "a\u202egnp\x00",
    "list of lists": [[[]]],
    "map of maps": {"a": {"b": None}},
}
BASES: dict[str, dict[str, Any]] = {
    "pairs": {
        "model": {"name": "embedded"},
        "lora": {"r": 4},
        "data": {"source": "scenes", "scenes": {"images": 8}},
        "objective": {"type": "dpo"},
        "max_steps": 1,
    },
    "online": {
        "model": {"name": "embedded"},
        "lora": {"r": 4},
        "data": {"source": "scenes", "scenes": {"images": 8, "questions": ["description"]}},
        "objective": {"type": "grpo"},
        "sampler": {"type": "transformers", "num_generations": 2, "max_completion_length": 8},
        "rewards": {"accuracy": {"method": "exact"}},
        "max_steps": 1,
    },
}
INSIDE = (
    ("data", "scenes", "images"), ("data", "scenes", "questions"), ("data", "columns", "chosen"),
    ("model", "processor", "do_resize"), ("model", "processor", "shortest_edge"), ("rewards", "accuracy"),
    ("rewards", "accuracy", "method"), ("rewards", "accuracy", "weight"),
    ("rewards", "accuracy", "options"), ("evaluation", "tasks", "scenes"),
    ("evaluation", "limits", "loss"), ("lr_scheduler_kwargs", "min_lr_rate"), ("data", "nothing"), ("nothing",),
)  # fmt: skip
"""Keys of maps whose keys are no fields, and two that do not exist."""
PLANNED = 16
"""One in so many of the accepted cases is planned."""
QUICK = 2.0
"""Seconds of processor time for reading one recipe."""
Case = tuple[tuple[str, ...], dict[str, Any]]


def cases() -> list[Case]:
    """Every field's path with a recipe in which it has a place."""
    found: dict[tuple[str, ...], Case] = {}
    for path, kinds in fields_of(Recipe):
        is_online = path[0] in ("sampler", "rewards") or any("online" in kind.__module__.lower() for kind in kinds)
        base = copy.deepcopy(BASES["online" if is_online else "pairs"])
        if path[0] in ("objective", "sampler", "reference") and len(path) > 1:
            base[path[0]] = {**base.get(path[0], {}), **type_of(kinds[-1])}
        found.setdefault((*path, str(type_of(kinds[-1]).get("type"))), (path, base))
    inside = [(path, copy.deepcopy(BASES["online" if path[0] == "rewards" else "pairs"])) for path in INSIDE]
    return [*found.values(), *inside]


def fields_of(kind: Any, path: tuple[str, ...] = (), outer: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all fields, of every kind of group that a field may hold, with the groups that they are in."""
    hints, kinds = typing.get_type_hints(kind), (*outer, kind)
    for field in dataclasses.fields(kind):
        yield (*path, field.name), kinds
        for inner in groups_in(hints[field.name]):
            if inner not in kinds:
                yield from fields_of(inner, (*path, field.name), kinds)


def groups_in(hint: Any) -> list[Any]:
    """The dataclasses that a type names, at whatever depth."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [found for one in typing.get_args(hint) for found in groups_in(one)]


def type_of(kind: Any) -> dict[str, str]:
    """`{type: dpo}` of a group that is told apart by its type."""
    names = typing.get_args(typing.get_type_hints(kind).get("type"))
    if not names or not all(isinstance(name, str) for name in names) or not kind.__name__.endswith("Config"):
        return {}
    needed: dict[str, Any] = {"parts": {"sigmoid": 1.0}} if names[0] == "mix" else {}
    own = {"function": "own.py:thing"} if "function" in typing.get_type_hints(kind) else {}
    return {"type": names[0], **needed, **own}


def with_value(base: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(base)
    inside = tree
    for key in path[:-1]:
        inside[key] = inside.get(key) if isinstance(inside.get(key), dict) else {}
        inside = inside[key]
    inside[path[-1]] = value
    return tree


def test_every_field_takes_a_value_or_names_it(tmp_path: Path) -> None:
    outcomes: dict[str, str] = {}
    faults: list[str] = []
    accepted: dict[str, Path] = {}
    for path, base in cases():
        for name, value in VALUES.items():
            label = f"{'.'.join(path)} ({'.'.join(type_of_base(base, path))}): {name}"
            file = tmp_path / f"{len(outcomes)}.yaml"
            file.write_text(yaml.dump(with_value(base, path, value), sort_keys=False))
            began = time.process_time()
            try:
                recipe = load_recipe(file)
            except UserError as error:
                outcomes[label] = "named"
                told = str(error)
                lines, keys = told.split("\n"), [*path[-2:], *(value if isinstance(value, dict) else ())]
                if len(lines) > 3 or len(told) > 2500 or not all(any(key in one for key in keys) for one in lines):
                    note(faults, f"{label}: {told[:300]}")
            except Exception as error:
                outcomes[label] = "traceback"
                note(faults, f"{label}: {type(error).__name__}: {error}"[:300])
            else:
                outcomes[label] = "accepted"
                accepted[label] = file
                again = tmp_path / "again.yaml"
                again.write_text(dump_recipe(recipe))
                if load_recipe(again) != recipe:
                    note(faults, f"{label}: is another recipe once it is written")
            if time.process_time() > began + QUICK:
                note(faults, f"{label}: takes {time.process_time() - began:.1f} s to read")
    report("Values of recipes", outcomes)
    assert not faults
    plan_some(accepted, tmp_path)


def type_of_base(base: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    group = base.get(path[0])
    return [group["type"]] if isinstance(group, dict) and "type" in group else [base["objective"]["type"]]


def plan_some(accepted: dict[str, Path], tmp_path: Path) -> None:
    """A fixed part of what was accepted, through the real command."""
    chosen = {label: file for label, file in accepted.items() if crc32(label.encode()) % PLANNED == 0}
    outcomes, faults = {}, []
    import_what_is_used(["plan", str(next(iter(chosen.values())))], tmp_path / "plan.log")
    for label, file in chosen.items():
        outcome = command(["plan", str(file)], tmp_path / "plan.log")
        outcomes[label] = outcome.kind
        if outcome.is_fault:
            note(faults, f"plan, {label}: {outcome.complaint[:400]}")
    report(f"Plans of every {PLANNED}th accepted recipe", outcomes)
    assert not faults
