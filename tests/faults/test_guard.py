"""Numbers that go wrong: NaN in a row, a policy that diverges, chosen answers that lose their probability."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.cli.main import main
from sightline.config.guard import GuardConfig
from sightline.data.render.render import Renderer
from sightline.errors import RunFailed
from sightline.models.load import EMBEDDED
from sightline.training.guard import WINDOW, Divergence
from tests.training.runs import curve, lines, pairs, run
from tests.training.test_online import prompts
from tests.training.test_online import run as run_online

OPTIONS = {"max_steps": 4, "shuffle": False, "save_steps": 1, "per_device_train_batch_size": 4}


@pytest.fixture
def poisoned(monkeypatch):
    """Row 9 of the data, in the third step, has a token weight that is not a number."""
    honest = Renderer.group

    def group(self, example, *rest):
        made = honest(self, example, *rest)
        if not example.id.endswith(":9"):
            return made
        return dataclasses.replace(made, weights=(made.weights[0] * torch.nan, *made.weights[1:]))

    monkeypatch.setattr(Renderer, "group", group)


def test_a_nan_stops_the_run_and_its_row_can_be_looked_at(tmp_path, tiny_model, poisoned, capsys):
    with pytest.raises(RunFailed, match=r"step 3 is NaN or Inf. 1 of its rows are in .*step-3.parquet"):
        run(tmp_path / "run", tiny_model("llava"), pairs(16), **OPTIONS)
    assert len(curve(tmp_path / "run")) == 2
    assert (tmp_path / "run/checkpoint-2/checkpoint.json").is_file()
    page = tmp_path / "rows.html"
    shown = main(["data", "show", str(tmp_path / "run/nonfinite/step-3.parquet"), "--html", str(page)])
    said = capsys.readouterr().out
    assert shown == 0 and "1 rows" in said and page.stat().st_size > 1000
    assert pairs(16)[9]["chosen"].split()[0] in said


def test_a_step_with_nan_is_left_out_as_if_the_optimizer_had_not_been_called(tmp_path, tiny_model, poisoned):
    guard = {"skip_steps": 1}
    run(tmp_path / "run", tiny_model("llava"), pairs(16), **OPTIONS, guard=guard)
    found = lines(tmp_path / "run")
    steps = [line for line in found if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert steps[2]["loss"] == 0 and "rewards/margins" not in steps[2]
    assert all(value == value for line in steps for value in line.values())
    states = [
        torch.cat([t.flatten() for t in _weights(tmp_path / "run" / f"checkpoint-{n}").values()]) for n in (2, 3, 4)
    ]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])
    assert states[2].isfinite().all()


def _weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_weights_that_overflow_stop_a_run_that_skips(tmp_path, tiny_model):
    run(tmp_path / "first", tiny_model("llava"), pairs(4), max_steps=1)
    adapter = tmp_path / "first" / "adapter_model.safetensors"
    save_file({name: torch.full_like(value, 1e30) for name, value in load_file(adapter).items()}, adapter)
    options = {**OPTIONS, "lora": {"adapter": str(tmp_path / "first")}, "guard": {"skip_steps": 2}}
    with pytest.raises(RunFailed, match=r"step 3 is NaN or Inf\. 4 of its rows"):
        run(tmp_path / "run", tiny_model("llava"), pairs(16), **options)


def line(chosen=-50.0, kl=None):
    return {"logps/chosen": chosen} | ({} if kl is None else {"kl": kl})


def test_collapse_is_said_once_and_survives_a_resume():
    watch = Divergence(GuardConfig(), online=False)
    assert all(watch.see(line()) is None for _ in range(WINDOW))
    other = Divergence(GuardConfig(), online=False)
    other.load_state(json.loads(json.dumps(watch.state())))
    said = [other.see(line(-500.0)) for _ in range(WINDOW)]
    # the average of the last ten lines passes 4 · -50 with the fourth of them
    assert [one is not None for one in said] == [False] * 3 + [True] + [False] * 6
    assert "-230 nats per response, -50 at the start" in said[3]


def test_divergence_is_measured_where_it_is_per_token():
    far = [Divergence(GuardConfig(), online=yes) for yes in (True, False)]
    said = [[watch.see(line(kl=11.0)) for _ in range(WINDOW)] for watch in far]
    assert said[0][-1] is not None and "11.0 nats per token" in said[0][-1]
    assert said[1] == [None] * WINDOW


def test_sampled_answers_that_become_noise_are_noticed_without_a_reference():
    watch = Divergence(GuardConfig(), online=True)
    assert all(watch.see({"entropy": 1.0}) is None for _ in range(WINDOW))
    other = Divergence(GuardConfig(), online=True)
    other.load_state(json.loads(json.dumps(watch.state())))
    said = [other.see({"entropy": 6.0}) for _ in range(WINDOW)]
    # the average of the last ten lines passes 1 + 3 with the seventh of them
    assert [one is not None for one in said] == [False] * 6 + [True] + [False] * 3
    assert "4.5 nats per token" in said[6] and "1.0 at the start" in said[6]


def test_noise_stops_an_online_run_with_a_checkpoint_where_asked(tmp_path):
    options = {"max_steps": 40, "num_train_epochs": 40, "learning_rate": 0.05, "warmup_steps": 12}
    guard = {"on_collapse": "stop", "max_entropy_rise": 0.2}
    with pytest.raises(RunFailed, match="become noise"):
        run_online(tmp_path / "run", EMBEDDED, prompts(6), reward=whatever, **options, guard=guard)
    last = len(curve(tmp_path / "run"))
    assert WINDOW < last < 40 and (tmp_path / "run" / f"checkpoint-{last}" / "checkpoint.json").is_file()


def whatever(completions, **columns):
    """A reward that has nothing to do with the answer."""
    return [(i * 31 + len(completion)) % 7 for i, completion in enumerate(completions)]


def test_a_collapse_stops_the_run_with_a_checkpoint_where_asked(tmp_path, tiny_model):
    options = {"max_steps": 40, "num_train_epochs": 40, "learning_rate": 0.03, "lora": None}
    guard = {"on_collapse": "stop", "max_logp_fall": 1.3}
    with pytest.raises(RunFailed, match="lost their probability"):
        run(tmp_path / "run", tiny_model("llava"), pairs(4), **options, guard=guard)
    last = len(curve(tmp_path / "run"))
    assert WINDOW <= last < 40 and (tmp_path / "run" / f"checkpoint-{last}" / "checkpoint.json").is_file()
