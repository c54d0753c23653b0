"""Real vLLM after HTTP, as `sightline rollout-server` starts it: weights travel, a lost server is waited for."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from sightline.errors import SamplerError
from sightline.rollouts.server_key import VARIABLE
from sightline.rollouts.vllm_weights import Endpoint, NCCLWeights, PolicySource, WeightFiles
from tests.vllm.models import save
from tests.vllm.runs import AGREE, differences, run, steps, tree

READY = 900
"""Seconds that a server may take to start."""


class Server:
    """`sightline rollout-server` in a process of its own."""

    def __init__(self, folder: Path, model: Path, lora: bool) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.recipe, self.log = folder / "recipe.yaml", folder / "server.log"
        self.recipe.write_text(yaml.safe_dump(tree(folder / "run", model, lora, {"mode": "server"})))
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "sightline.cli.main", "rollout-server", str(self.recipe)]
        command += ["--port", str(self.port), "--", "--max-model-len", "512"]
        self.process = subprocess.Popen(
            command, stdout=self.log.open("a"), stderr=subprocess.STDOUT, start_new_session=True, env=dict(os.environ)
        )

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + READY
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-3000:]
                time.sleep(0.5)

    def kill(self) -> None:
        """As a machine that goes down: the server and its engine, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two servers that start side by side: Qwen2-VL for adapters, SmolVLM for all weights. Both want a key."""
    started = {}
    os.environ[VARIABLE] = "known"
    for family, lora in (("qwen2_vl", True), ("smolvlm", False)):
        model = save(family, tmp_path_factory.mktemp(family))
        started[family] = (Server(tmp_path_factory.mktemp(f"server-{family}"), model, lora), model, lora)
    try:
        for server, _, _ in started.values():
            server.wait()
        yield started
    finally:
        for server, _, _ in started.values():
            server.stop()
        del os.environ[VARIABLE]


def over_http(server: Server, **more) -> dict:
    return {"mode": "server", "url": server.url, **more}


@pytest.mark.parametrize("path", ["/collective_rpc", "/v1/models", "/update_weight_version"])
def test_nobody_without_the_key_is_answered(servers, path):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(urllib.request.Request(servers["qwen2_vl"][0].url + path, b"{}"), timeout=60)


@pytest.mark.parametrize("family", ["qwen2_vl", "smolvlm"])
def test_log_probs_agree_after_every_sync(tmp_path, servers, family):
    server, model, lora = servers[family]
    run(tmp_path / "run", model, lora, over_http(server))
    found = differences(tmp_path / "run")
    assert len(found) == 3 and max(found) < AGREE
    assert not (tmp_path / "run" / "rollout-weights").exists()


def test_a_server_that_starts_anew_gets_its_weights_again(tmp_path, servers):
    """Killed and started between two steps: the run waits, and no answer comes from the base model's weights."""
    server, model, lora = servers["qwen2_vl"]
    pushed = []

    def restart(completion_ids, **_):
        pushed.append(1)
        if len(pushed) == 2:
            server.kill()
            server.start()
        return [sum(token < 250 for token in ids) / len(ids) for ids in completion_ids]

    from sightline.recipe import normalise, structure
    from sightline.training.run import train
    from tests.vllm.runs import prompts

    recipe = structure(normalise(tree(tmp_path / "run", model, lora, over_http(server, server_timeout=READY))))
    train(recipe, data=prompts(6), rewards=[restart])
    assert [line["step"] for line in steps(tmp_path / "run")] == [1, 2, 3]
    assert max(differences(tmp_path / "run")) < AGREE


def test_weights_that_somebody_else_pushed_are_noticed(tmp_path, servers, monkeypatch):
    server, model, lora = servers["smolvlm"]
    push = WeightFiles.push

    def push_and_be_overtaken(self, policy, version):
        push(self, policy, version)
        self.server.post("/update_weight_version", {"new_version": "another run"})

    monkeypatch.setattr(WeightFiles, "push", push_and_be_overtaken)
    monkeypatch.setattr(WeightFiles, "push_again", lambda self, version: None)
    with pytest.raises(SamplerError, match="somebody else pushes to the same server"):
        run(tmp_path / "run", model, lora, over_http(server))


def test_a_server_that_is_gone_stops_the_run_with_a_checkpoint(tmp_path, servers):
    """Last of this file's tests with this server: it stays dead."""
    server, model, lora = servers["smolvlm"]
    calls = []

    def kill_after_two(completion_ids, **_):
        calls.append(1)
        if len(calls) == 2:
            server.kill()
        return [sum(token < 250 for token in ids) / len(ids) for ids in completion_ids]

    from sightline.recipe import normalise, structure
    from sightline.training.run import train
    from tests.vllm.runs import prompts

    recipe = tree(tmp_path / "run", model, lora, over_http(server, server_timeout=3))
    with pytest.raises(SamplerError, match=r"cannot be reached.*asked again for 3 s.*--resume"):
        train(structure(normalise(recipe)), data=prompts(6), rewards=[kill_after_two])
    assert (tmp_path / "run" / "checkpoint-2" / "trainer_state.json").is_file()


def test_weights_for_nccl_are_announced_as_they_are_read(servers):
    """vLLM's own check of a source; sending itself takes two GPUs."""
    from vllm.distributed.weight_transfer import nccl_engine  # pyright: ignore[reportMissingImports]

    from sightline.config import ModelConfig
    from sightline.models.load import load_model

    weights = NCCLWeights(server=Endpoint("http://127.0.0.1:1", 1.0), address="127.0.0.1", port=1)
    weights.policy = load_model(ModelConfig(name=str(servers["smolvlm"][1])))
    source = PolicySource(weights)
    sent = list(nccl_engine.NCCLTrainerWeightTransferEngine._checked_iter(source, source.metadata()))
    assert len(sent) == len(weights.policy.state_dict())
