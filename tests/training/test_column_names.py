"""Whatever a user's columns are called and hold, every objective trains as without them, and rewards get them."""

import json
import shutil
from functools import cache
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from sightline.config import DataConfig
from sightline.data.checks.show import shown
from sightline.data.render.corrupt import WithCorruptedImages
from sightline.data.render.dataset import GroupDataset, Kind
from sightline.data.sources.load import load_rows, rows_of
from sightline.objectives.roles import CORRUPTED
from sightline.rewards.reward_set import TABLE
from sightline.rollouts.prompts import PromptDataset
from sightline.training.reference import key_of
from sightline.training.step.auxiliary import with_corrected
from sightline.training.step.nonfinite import write_rows
from sightline.types import Group
from tests.column_names import FREE_NAMES, NAMES, VALUES, named
from tests.invariant.steps import Case, Outcome, case, step
from tests.objectives.every import EVERY, build_from
from tests.training.runs import curve, pairs
from tests.training.test_online import prompts, run, same, weights

UNPAIRED = sorted(name for name in EVERY if build_from(EVERY[name]).num_responses is None)


@pytest.fixture(scope="module")
def made(tiny_model) -> Case:
    return case(tiny_model("llava"), torch.float32)


@pytest.fixture(scope="module")
def groups_with(made):
    """Groups of two rows that have all of the columns, with a value of this type; `without` has none."""

    @cache
    def groups(kind: Kind, corrupt: bool, value: str, labelled: bool = False) -> list[Group]:
        columns = {} if value == "without" else named(VALUES[value])
        rows = [{**row, **columns} for row in pairs(2, seed=3)]
        if labelled:
            rows = [
                {**columns, "image": row["image"], "question": row["question"], "answer": row["chosen"], "label": label}
                for row, label in zip(rows, (True, False), strict=True)
            ]
        dataset: Any = GroupDataset(rows, DataConfig(), made.renderer, kind)
        dataset = WithCorruptedImages(dataset) if corrupt else dataset
        return [dataset[index] for index in range(2)]

    return groups


def outcome(made: Case, name: str, groups: list[Group]) -> Outcome:
    return step(made, name, groups=with_corrected(groups, build_from(EVERY[name]).corrected_weight))


def agree(one: Outcome, other: Outcome) -> bool:
    alike = torch.equal(one.gradient, other.gradient) and bool(one.gradient.any())
    return alike and (one.loss, one.metrics, one.state) == (other.loss, other.metrics, other.state)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_objective_steps_alike_whatever_columns_are_called(made, groups_with, name):
    objective = build_from(EVERY[name])
    kind = "demonstrations" if objective.num_responses == 1 else "pairs"
    corrupt = CORRUPTED in objective.roles
    plain = outcome(made, name, groups_with(kind, corrupt, "without"))
    for value in VALUES:
        groups = groups_with(kind, corrupt, value)
        assert groups[0].row == named(VALUES[value])
        assert [key_of(group) for group in groups] == [key_of(group) for group in groups_with(kind, corrupt, "without")]
        assert agree(outcome(made, name, groups), plain), value


@pytest.mark.parametrize("name", UNPAIRED)
def test_labels_of_single_responses_are_read_beside_any_column(made, groups_with, name):
    plain = outcome(made, name, groups_with("demonstrations", False, "without", labelled=True))
    for value in VALUES:
        groups = groups_with("demonstrations", False, value, labelled=True)
        assert [group.columns.label.tolist() for group in groups] == [[True], [False]]
        assert [group.row["label"] for group in groups] == [True, False]
        assert agree(outcome(made, name, groups), plain), value


def test_the_token_cache_keeps_columns_and_labels(made, tmp_path):
    columns = named("cat")
    rows = [{**columns, "question": "Q", "answer": answer, "label": answer == "yes"} for answer in ("yes", "no")]
    config = DataConfig(cache_tokens=True, cache_dir=str(tmp_path))
    apart, cached = (GroupDataset(rows, c, made.renderer, "demonstrations") for c in (DataConfig(), config))
    for i in range(2):
        one, other = apart[i], cached[i]
        assert isinstance(one, Group) and isinstance(other, Group)
        assert one.row == other.row == {**columns, "label": i == 0, "answer": rows[i]["answer"]}
        assert one.columns.label is not None and torch.equal(one.columns.label, other.columns.label)


@pytest.mark.parametrize("kind", ["pairs", "prompts"])
def test_rows_that_gave_nan_are_written_and_shown_with_every_column(made, tmp_path, kind):
    images = pairs(len(VALUES))
    rows = [{**row, **named(value)} for row, value in zip(images, VALUES.values(), strict=True)]
    if kind == "prompts":
        dataset: Any = PromptDataset(rows, DataConfig(), made.renderer)
    else:
        dataset = GroupDataset(rows, DataConfig(), made.renderer, "pairs")
    names = [f"rows:{number}" for number in range(len(rows))]
    assert write_rows(tmp_path / "rows.parquet", dataset, names) == len(rows)
    written = load_rows(DataConfig(source=str(tmp_path / "rows.parquet")))
    given = rows_of(rows)
    for number, value in enumerate(VALUES.values()):
        example, before = written.example(number), given.example(number)
        assert example.prompt == before.prompt
        ours = {"prompt"} if kind == "pairs" else {"prompt", "messages"}
        for name in NAMES:
            kept = example.row.get(f"source_{name}" if name in ours else name)
            assert kept == (None if value is None else json.dumps(value)), name
        assert dict(shown(given.entry(number)).columns) == {name: repr(value) for name in NAMES}
        assert dict(shown(written.entry(number)).columns).keys() >= {"label", "role", "row", "columns", "index"}


def rows_of_every_type() -> list[dict[str, Any]]:
    """A prompt for each type of value, with all of the columns."""
    return [
        {"image": row["image"], "question": row["question"], **named(value, FREE_NAMES), "number": number}
        for number, (row, value) in enumerate(zip(prompts(len(VALUES)), VALUES.values(), strict=True))
    ]


COMPARED = ("grpo", "rloo")
"""Of which the same run without the columns is made, too."""


class Watching:
    """A reward that keeps the columns that it was given for each row."""

    __name__ = "watching"

    def __init__(self) -> None:
        self.seen: dict[int, dict[str, Any]] = {}

    def __call__(self, /, completions, number, **columns):
        for i, row in enumerate(number):
            self.seen[row] = {name: columns[name][i] for name in FREE_NAMES}
        return [-len(completion) / 10 for completion in completions]


@pytest.mark.parametrize(
    "objective", ["grpo", "dr_grpo", "dapo", "bnpo", "gspo", "gspo_token", "cispo", "sapo", "rloo", "reinforce_pp"]
)
def test_every_online_objective_trains_alike_and_rewards_get_every_column(tmp_path, tiny_model, objective):
    rows, reward = rows_of_every_type(), Watching()
    options = {"objective": {"type": objective}, "per_device_train_batch_size": 6, "max_steps": 2}
    options["sampler"] = {"num_iterations": 2, "num_generations": 2, "max_completion_length": 3}
    with_columns = run(tmp_path / "with", tiny_model("llava"), rows, reward=reward, **options)
    assert reward.seen == {row["number"]: {name: row[name] for name in FREE_NAMES} for row in rows}
    assert curve(with_columns.folder, "grad_norm")[0] > 0
    if objective not in COMPARED:
        return
    bare = [{name: row[name] for name in ("image", "question", "number")} for row in rows]

    def watching(completions, **_):
        return [-len(completion) / 10 for completion in completions]

    without = run(tmp_path / "without", tiny_model("llava"), bare, reward=watching, **options)
    assert same(weights(with_columns.folder), weights(without.folder))
    assert curve(with_columns.folder, "reward") == curve(without.folder, "reward")


def test_answers_in_a_file_are_kept_and_a_stopped_run_goes_on_alike(tmp_path, tiny_model):
    """Through JSONL, two worker processes, a table, held-out prompts, and answers that wait in a checkpoint."""
    rows = rows_of_every_type()
    lines = []
    for row in rows:
        row["image"].save(tmp_path / f"{row['number']}.png")
        lines.append(json.dumps({**row, "image": f"{row['number']}.png"}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    options = {
        "data": {"source": str(tmp_path / "rows.jsonl"), "eval_source": str(tmp_path / "rows.jsonl")},
        "eval_steps": 3, "max_steps": 4, "save_steps": 3, "lr_scheduler_type": "constant", "dataloader_num_workers": 2,
        "sampler": {"num_iterations": 2, "num_generations": 2, "max_completion_length": 3, "completions_steps": 1},
    }  # fmt: skip
    reward = Watching()
    whole = run(tmp_path / "whole", tiny_model("llava"), None, reward=reward, **options)
    assert reward.seen == {row["number"]: {name: row[name] for name in FREE_NAMES} for row in rows}
    (first, *_) = sorted((tmp_path / "whole" / "completions").iterdir())
    assert set(pq.read_schema(first).names) == {*TABLE, "rewards/watching"}
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in ("checkpoint-4", "sightline.json", "adapter_model.safetensors"):
        path = tmp_path / "cut" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    resumed = run(tmp_path / "cut", tiny_model("llava"), None, reward=Watching(), **options, resume=True)
    assert same(weights(whole.folder), weights(resumed.folder))
    assert curve(whole.folder, "reward") == curve(resumed.folder, "reward")
