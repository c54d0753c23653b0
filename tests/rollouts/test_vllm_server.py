"""What is said to a vLLM server, and what happens when it is busy, gone, started anew, or not ours."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.config import LoraConfig, ModelConfig
from sightline.config.data import DataConfig
from sightline.data.render.render import Renderer
from sightline.errors import SamplerError
from sightline.generation.sampling import SamplingSettings
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.vllm_server import VLLMServerSampler, wait_for
from sightline.rollouts.vllm_weights import AdapterFiles, Endpoint, WeightFiles, address_towards
from tests.rollouts.served import FakeVLLM, serving
from tests.training.test_online import prompts

SETTINGS = SamplingSettings(max_new_tokens=5, temperature=0.7, top_p=0.9, top_k=20, min_p=0.01, stop=("END",))


@pytest.fixture(scope="module")
def loaded(tiny_model):
    config = ModelConfig(name=str(tiny_model("llava")))
    model, processor = load_model(config), load_processor(config)
    rows = prompts(2)
    dataset = PromptDataset(rows, DataConfig(source="rows"), Renderer(processor))
    return add_lora(model, LoraConfig(r=4)), processor, [dataset[i] for i in range(2)], rows


@pytest.fixture
def sampler(loaded, tmp_path: Path, monkeypatch):
    """A sampler with its server, which answers every prompt with the tokens 7 and 8."""
    model, processor, asked, _ = loaded
    monkeypatch.setattr("sightline.http.time.sleep", lambda seconds: None)
    by_text = {prompt.as_given: prompt.group.prompt_ids.tolist() for prompt in asked}

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        text = body["messages"][0]["content"][-1]["text"]
        choice = {"token_ids": [7, 8], "finish_reason": "stop"}
        choice["logprobs"] = {"content": [{"logprob": -1.0}, {"logprob": -2.0}]}
        choices = [{"index": i, **choice} for i in reversed(range(body["n"]))]
        return {"prompt_token_ids": by_text[text], "choices": choices}

    with serving(FakeVLLM(answer)) as server:
        endpoint = Endpoint(server.url, 5.0)
        made = VLLMServerSampler(model, processor, endpoint, AdapterFiles(endpoint, tmp_path / "weights"))
        made.sync(model)
        yield made, server


def test_prompts_go_with_their_images_and_the_recipes_settings(sampler, loaded):
    made, server = sampler
    _, _, asked, rows = loaded
    found = made.sample(asked, 3, SETTINGS, seed=5)
    assert [[answer.ids.tolist() for answer in group] for group in found] == [[[7, 8]] * 3] * 2
    assert found[0][0].finished and found[0][0].log_probs.tolist() == [-1.0, -2.0]
    bodies = sorted((b for p, b in server.asked if p == "/v1/chat/completions"), key=lambda b: b["seed"])
    assert [body["seed"] for body in bodies] == [5 * 1_000_003 * 3, (5 * 1_000_003 + 1) * 3], (
        "no two answers share a seed"
    )
    body = bodies[0]
    assert body["model"] == made.version and body["n"] == 3 and body["max_completion_tokens"] == 5
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (0.7, 0.9, 20, 0.01)
    assert body["stop"] == ["END"] and body["include_stop_str_in_output"]
    assert body["logit_bias"] and all(bias == -100 for bias in body["logit_bias"].values())
    image = body["messages"][0]["content"][0]["image_url"]["url"].removeprefix("data:image/png;base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(image)))
    assert np.array_equal(np.asarray(sent), np.asarray(rows[0]["image"]))


def test_every_sync_is_a_new_adapter_and_forgets_what_was_computed_with_the_last(sampler, loaded, tmp_path):
    made, server = sampler
    first = made.version
    made.sync(loaded[0])
    assert server.adapters == [made.version] != [first]
    pushed = server.paths()[server.paths().index("/v1/unload_lora_adapter") :]
    assert {"/v1/load_lora_adapter", "/reset_mm_cache", "/reset_encoder_cache", "/reset_prefix_cache"} <= set(pushed)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [made.version]
    made.close()
    assert not (tmp_path / "weights").exists()


def test_a_busy_server_is_asked_again(sampler, loaded):
    made, server = sampler
    server.trouble = [503, 429, 500]
    assert len(made.sample(loaded[2], 1, SETTINGS, seed=0)) == 2


def test_a_server_that_was_started_anew_gets_the_adapter_again(sampler, loaded):
    made, server = sampler
    server.adapters.clear()
    assert len(made.sample(loaded[2], 1, SETTINGS, seed=0)) == 2
    assert server.adapters == [made.version]


def test_all_weights_of_somebody_else_are_noticed(sampler, loaded, tmp_path, monkeypatch):
    made, server = sampler
    made.weights = WeightFiles(Endpoint(server.url, 5.0), tmp_path / "all")
    made.sync(loaded[0])
    assert server.version == made.version
    assert len(made.sample(loaded[2], 1, SETTINGS, seed=0)) == 2
    monkeypatch.setattr(server, "reports", "another run's")
    with pytest.raises(SamplerError, match="somebody else pushes"):
        made.sample(loaded[2], 1, SETTINGS, seed=0)


def test_a_request_that_the_server_refuses_is_told_with_its_words(sampler, loaded):
    made, server = sampler
    server.trouble = [400, 400]
    with pytest.raises(SamplerError, match=r"answered 400.*busy.*Start it with `sightline rollout-server`"):
        made.sample(loaded[2], 1, SETTINGS, seed=0)


def test_a_server_that_stays_away_is_told_with_how_long_it_was_waited_for(loaded, tmp_path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr("sightline.http.time.sleep", pauses.append)
    model, processor, *_ = loaded
    said: list[str] = []
    away = Endpoint("http://127.0.0.1:9", 5.0, said.append)
    made = VLLMServerSampler(model, processor, away, AdapterFiles(away, tmp_path / "weights"))
    with pytest.raises(SamplerError, match=r"cannot be reached.*asked again for 5 s.*rollout-server"):
        made.sync(model)
    assert pauses == [1.0, 2.0, 4.0]
    assert len(said) == 1 and said[0].startswith("Waiting for the rollout server, for 5 s at most: http://127.0.0.1:9")


def test_a_server_that_dies_while_it_answers_is_asked_again(sampler, loaded):
    made, server = sampler
    server.breaks_off = 2
    assert len(made.sample(loaded[2], 1, SETTINGS, seed=0)) == 2
    assert server.breaks_off == 0


def test_the_key_goes_with_every_request_and_a_wrong_one_is_told(sampler, loaded, monkeypatch):
    made, server = sampler
    monkeypatch.setenv("SIGHTLINE_ROLLOUT_KEY", "a secret")
    server.asked.clear()
    made.sync(loaded[0])
    made.sample(loaded[2], 1, SETTINGS, seed=0)
    assert len(server.authorised) > 4 and set(server.authorised[-len(server.asked) :]) == {"Bearer a secret"}
    server.trouble = [401] * 2
    with pytest.raises(SamplerError, match=r"answered 401.*Set \$SIGHTLINE_ROLLOUT_KEY") as caught:
        made.sample(loaded[2], 1, SETTINGS, seed=0)
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("models", "said"),
    [({"data": [{"id": "llama"}]}, "serves llama"), ({}, "lists no models"), (None, "lists no models")],
)
def test_what_is_no_rollout_server_is_refused(sampler, models, said):
    _, server = sampler
    server.models = models
    with pytest.raises(SamplerError, match=f"is no rollout server: it {said}"):
        wait_for(Endpoint(server.url, 0.0))


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1:none"])
def test_what_is_no_address_is_refused_at_once(url):
    with pytest.raises(SamplerError, match="is no address; it has the form http://HOST:PORT"):
        wait_for(Endpoint(url, 300.0))


def test_another_prompt_than_training_reads_is_refused_with_its_place(sampler, loaded):
    made, server = sampler
    answer = server.answer
    server.answer = lambda body: answer(body) | {"prompt_token_ids": [*answer(body)["prompt_token_ids"], 3]}
    with pytest.raises(SamplerError, match=r"reads the prompt of .* they first differ at token \d+"):
        made.sample(loaded[2], 1, SETTINGS, seed=0)


def test_this_machines_address_is_the_one_that_faces_the_server():
    assert address_towards("http://127.0.0.1:8000") == "127.0.0.1"
