"""`sightline rollout-server`: the flags that vLLM gets, and what is refused."""

import importlib
import json
import socket
from pathlib import Path

import pytest

from sightline.cli import rollout_server
from sightline.cli.main import main
from sightline.config.online import VLLMSamplerConfig
from sightline.errors import SamplerError
from sightline.recipe import normalise, structure
from sightline.rollouts.server_key import VARIABLE, RequireKey


def command(folder: Path, *more: str, **changes) -> list[str]:
    sampler = {"type": "vllm", "mode": "server", **changes.pop("sampler", {})}
    recipe = structure(normalise({"model": str(folder), "objective": "grpo", "sampler": sampler, **changes}))
    assert isinstance(recipe.sampler, VLLMSamplerConfig)
    return rollout_server.server_command(recipe, recipe.sampler, folder, "127.0.0.1", 8123, list(more))


def value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_vllm_gets_the_recipes_model_precision_and_adapter(tmp_path):
    words = command(tmp_path, "--max-model-len", "512", lora={"r": 20})
    assert value(words, "--model") == str(tmp_path) and value(words, "--port") == "8123"
    assert value(words, "--dtype") == "float32" and "--enforce-eager" in words
    assert "--enable-lora" in words and value(words, "--max-lora-rank") == "32"
    assert value(words, "--logprobs-mode") == "raw_logprobs"
    assert json.loads(value(words, "--limit-mm-per-prompt"))["video"] == 0
    assert words[-2:] == ["--max-model-len", "512"]


def test_all_weights_need_no_adapter_and_another_temperature_other_log_probs(tmp_path):
    words = command(tmp_path, sampler={"temperature": 0.7})
    assert "--enable-lora" not in words and value(words, "--logprobs-mode") == "processed_logprobs"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "does not sample from a server"),
        (["--sampler.type", "vllm", "--sampler.mode", "server"], "vLLM, which is not installed"),
        (["--sampler.type", "vllm", "--sampler.mode", "server", "--sampler.urll", "x"], "url"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path, tiny_model, capsys, flags, said):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {tiny_model('llava')}\nobjective: grpo\n")
    assert main(["rollout-server", str(recipe), *flags]) == 2
    assert said in capsys.readouterr().err


def test_other_machines_are_listened_to_with_a_key_alone(tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("objective: grpo\nsampler: {type: vllm, mode: server}\n")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "--middleware" not in command(tmp_path)
    assert main(["rollout-server", str(recipe), "--host", "0.0.0.0"]) == 2
    said = capsys.readouterr().err
    assert f"Set {VARIABLE}" in said and "Traceback" not in said
    monkeypatch.setenv(VARIABLE, "known")
    assert main(["rollout-server", str(recipe), "--host", "0.0.0.0"]) == 2
    assert "not installed" in capsys.readouterr().err
    words = command(tmp_path)
    module, _, name = value(words, "--middleware").rpartition(".")
    assert getattr(importlib.import_module(module), name) is RequireKey and "known" not in " ".join(words)


def test_a_place_that_is_taken_or_not_this_machines_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SamplerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use.*--port"):
            rollout_server.check_address("127.0.0.1", port)
    rollout_server.check_address("127.0.0.1", port)
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(SamplerError, match=f"cannot listen on {host}:0"):
            rollout_server.check_address(host, 0)


def test_an_adapter_that_vllm_has_no_room_for_is_refused(tmp_path):
    with pytest.raises(SamplerError, match="up to rank 512"):
        command(tmp_path, lora={"r": 600})
