"""Worlds that came out smaller than asked for are refused; launchers are recognised."""

import dataclasses
import types

import pytest
import torch
import yaml
from accelerate import PartialState

from sightline.config import ModelConfig
from sightline.errors import RecipeError, RunFailed, UserError
from sightline.models.load import load_model, unfreeze
from sightline.recipe import load_recipe
from sightline.training.arguments import device
from sightline.training.distributed import world
from sightline.training.distributed.ddp import DDP
from sightline.training.distributed.fsdp2 import FSDP2
from sightline.training.distributed.launcher import num_to_launch
from sightline.training.distributed.requested import requested_engine
from sightline.training.distributed.world import (
    check_hosts,
    check_shared_folder,
    check_world,
    enter_slurm_step,
    expected,
    explain_lost_processes,
    join_world,
)
from sightline.training.distributed.zero import ZeRO

RECIPE = load_recipe(None, ["--use-cpu"])
ZERO_3 = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}


@pytest.mark.parametrize(
    ("environment", "parent", "found"),
    [
        ({"WORLD_SIZE": "4"}, [], [4]),
        ({"SLURM_NTASKS": "8"}, [], [8]),
        ({"SLURM_NTASKS": "2", "WORLD_SIZE": "16"}, [], [16]),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, [], [3]),
        ({}, ["python", "/bin/accelerate", "launch", "--cpu", "--num_processes", "2", "train.py"], [2]),
        ({}, ["accelerate", "launch", "--num_processes=2", "train.py"], [2]),
        ({}, ["python", "train.py", "--num_processes", "2"], []),
        ({}, [], []),
    ],
)
def test_how_many_processes_there_should_be_is_known_from_who_started_them(environment, parent, found):
    assert [number for number, _ in expected(environment, parent)] == found


def test_the_number_in_an_accelerate_config_counts(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"num_processes": 6}))
    assert expected({}, ["accelerate", "launch", "--config_file", str(config), "x.py"])[0][0] == 6


def test_a_smaller_world_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="requested 2 processes, but 1 trains together"):
        check_world(1, RECIPE)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_world(2, RECIPE)
    with pytest.raises(UserError, match="launcher started 2"):
        check_world(2, dataclasses.replace(RECIPE, nproc_per_node=4))


def test_accelerate_that_started_one_process_instead_of_two_is_noticed(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(world, "_command_of_parent", lambda: ["accelerate", "launch", "--num_processes", "2"])
    with pytest.raises(UserError, match="`accelerate launch` requested 2"):
        check_world(1, RECIPE)


def test_an_engine_that_became_another_is_noticed(monkeypatch):
    from accelerate.utils import DistributedType

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    accelerator = types.SimpleNamespace(distributed_type=DistributedType.MULTI_CPU, num_processes=2)
    with pytest.raises(UserError, match="fsdp2 was requested, but accelerate runs MULTI_CPU"):
        requested_engine(RECIPE).check_accelerate(accelerator)
    accelerator.distributed_type = DistributedType.FSDP
    requested_engine(RECIPE).check_accelerate(accelerator)
    with pytest.raises(UserError, match="ddp was requested, but accelerate runs FSDP"):
        requested_engine(dataclasses.replace(RECIPE, engine="ddp")).check_accelerate(accelerator)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version: 1"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
            "fsdp_cpu_ram_efficient_loading: true",
        ),
        ({**ZERO_3, "ACCELERATE_DEEPSPEED_CONFIG_FILE": "zero.json"}, "deepspeed_config_file"),
        ({**ZERO_3, "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "offload_optimizer_device"),
        ({**ZERO_3, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, "zero_stage: 0"),
    ],
)
def test_what_a_launcher_was_told_and_is_not_proved_is_refused(environment, expected):
    with pytest.raises(UserError, match=expected):
        requested_engine(RECIPE, environment)


def test_the_stage_that_a_launcher_was_told_is_the_engine():
    assert requested_engine(RECIPE, ZERO_3).name == "zero3"
    assert requested_engine(RECIPE, {"ACCELERATE_USE_DEEPSPEED": "true"}).name == "zero2"  # accelerate's own default


def test_deepspeed_is_an_extra_that_is_named(monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    ZeRO("zero3").check_installed(on_cpu=True)
    monkeypatch.setattr("sightline.training.distributed.zero.find_spec", lambda name: None)
    FSDP2("fsdp2").check_installed(on_cpu=True)
    with pytest.raises(RecipeError, match=r"pip install 'sightline\[deepspeed\]'"):
        ZeRO("zero3").check_installed(on_cpu=True)


@pytest.mark.parametrize(
    ("family", "changes", "engine", "expected"),
    [
        ("llava", {"freeze_projector": False}, "zero1", "vision tower or the projector"),
        ("mllama", {}, "zero2", "skip layers"),
    ],
)
def test_what_deepspeed_cannot_train_is_refused_by_name(tiny_model, family, changes, engine, expected):
    model = load_model(ModelConfig(name=str(tiny_model(family)), **changes), torch.device("cpu"))
    model = unfreeze(model, ModelConfig(name="", **changes))
    DDP("ddp").check_model(model, None)
    with pytest.raises(RecipeError, match=expected):
        ZeRO(engine).check_model(model, None)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--model.quantize", "nf4", "--lora.r", "4"], "model.quantize"),
        (["--optim", "adafactor"], "optim: adafactor"),
        (["--evaluation.tasks", "scenes"], r"evaluation\.tasks.*no process holds the whole model"),
        (
            ["--objective.type", "dpo", "--reference.update-every", "2", "--reference.type", "frozen-copy"],
            "update_every",
        ),
    ],
)
@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_what_sharded_weights_cannot_is_refused_by_name(engine, flags, expected):
    recipe = load_recipe(None, ["--use-cpu", "--engine", engine, *flags])
    with pytest.raises(UserError, match=expected):
        requested_engine(recipe).check_recipe(recipe, 2)
    with pytest.raises(UserError, match="one process trains"):
        requested_engine(recipe).check_recipe(recipe, 1)


def test_a_folder_that_other_machines_do_not_see_is_noticed(tmp_path):
    with pytest.raises(UserError, match="not the same folder"):
        check_shared_folder(tmp_path)


def test_a_slurm_step_becomes_a_torch_world():
    environment = {
        "SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
        "SLURM_STEP_NODELIST": "alpha,beta", "SLURM_JOB_ID": "41",
    }  # fmt: skip
    enter_slurm_step(environment)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [environment[name] for name in names] == ["9", "1", "16", "8", "alpha", "20041"]


def test_a_process_that_never_comes_is_waited_for_as_long_as_the_recipe_says(monkeypatch):
    where = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(PartialState, "_shared_state", {})
    with pytest.raises(RunFailed, match=r"never came.*1/2 clients joined.*ddp_timeout"), explain_lost_processes():
        join_world(dataclasses.replace(RECIPE, ddp_timeout=1), on_cpu=True)


def test_only_what_torch_says_of_other_processes_is_taken_for_a_lost_one():
    closed = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4"
    with pytest.raises(RunFailed, match=r"\(Connection closed by peer \[127"), explain_lost_processes():
        raise RuntimeError(closed)
    with pytest.raises(RuntimeError, match="sizes of tensors"), explain_lost_processes():
        raise RuntimeError("[0] The sizes of tensors differ")


def test_a_command_on_one_of_several_hosts_is_refused():
    check_hosts({"SLURM_JOB_NUM_NODES": "1"})
    check_hosts({"SLURM_JOB_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "1"})
    with pytest.raises(UserError, match="SLURM gave 2 hosts"):
        check_hosts({"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "2"})


def test_a_process_that_is_shown_a_single_gpu_takes_it(monkeypatch):
    """`srun --gpus-per-task 1`: the process with local number 3 sees one GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    for number, index in ((8, 3), (1, 0)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda number=number: number)
        assert device(load_recipe()) == torch.device("cuda", index)


def test_processes_are_started_outside_launchers_only():
    two = dataclasses.replace(RECIPE, nproc_per_node=2)
    assert num_to_launch(two, {}) == 2 and num_to_launch(RECIPE, {}) == 1
    for environment in ({"RANK": "0"}, {"WORLD_SIZE": "2"}, {"SLURM_STEP_NUM_TASKS": "4"}):
        assert num_to_launch(two, environment) == 1
