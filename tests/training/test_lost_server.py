"""A rollout server goes away in the middle of a run and comes back: the resumed run has the bits of an undisturbed one.

The server is one of HTTP that samples by transformers from the adapters pushed to it, so that answers follow from
weights and seeds alone.
"""

import io
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import set_peft_model_state_dict
from rich.console import Console
from safetensors.torch import load_file

from sightline.config import DataConfig, LoraConfig, ModelConfig
from sightline.data.render.render import Renderer
from sightline.errors import SamplerError
from sightline.generation.sampling import SamplingSettings
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.recipe import normalise, structure
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.sampler import TransformersSampler
from sightline.training.run import train
from sightline.types import Prompt
from tests.rollouts.served import Answer, FakeVLLM, Place, ServerDied
from tests.training.runs import curve
from tests.training.test_killed_online import figures, sampled
from tests.training.test_online import prompts, same, shortness, weights

ROWS = 6
RANK = 4
PATIENCE = 2
"""Seconds that the run waits for its server: one pause."""

MOMENTS = {
    "while it gets its weights": ("/v1/load_lora_adapter", 5),
    "with one prompt of two answered": ("/v1/chat/completions", 10),
    "while its weights are looked for": ("/v1/models", 10),
    "while held-out prompts are answered": ("/v1/chat/completions", 7),
}
"""Which request of which kind is the server's last. Rounds of sampling are in steps 1, 3, 5 and 7, of two prompts each;
after every second step two held-out ones are answered."""


class PolicyServer(FakeVLLM):
    """Samples from the model with the adapter that a request names. last: the request that it dies of."""

    def __init__(self, model: Path) -> None:
        super().__init__(self.answers)
        config = ModelConfig(name=str(model))
        self.processor = load_processor(config)
        self.model = add_lora(load_model(config), LoraConfig(r=RANK))
        dataset = PromptDataset(prompts(ROWS), DataConfig(source="rows"), Renderer(self.processor))
        items = [dataset[i] for i in range(ROWS)]
        self.prompts = {item.as_given: item for item in items if isinstance(item, Prompt)}
        self.files: dict[str, Path] = {}
        self.place = Place(self)
        self.last: tuple[str, int] | None = None
        self.counts: Counter[str] = Counter()
        self.one_at_a_time = threading.Lock()

    def reply(self, path: str, body: Any) -> Answer:
        with self.one_at_a_time:
            self.counts[path] += 1
            if self.last == (path, self.counts[path]):
                self.last = None
                self.place.go()
            if self.place.http is None:
                raise ServerDied
            if path == "/v1/load_lora_adapter":
                self.files[body["lora_name"]] = Path(body["lora_path"])
            return super().reply(path, body)

    def answers(self, body: dict[str, Any]) -> dict[str, Any]:
        """One prompt's, from its own seed."""
        set_peft_model_state_dict(self.model, load_file(self.files[body["model"]] / "adapter_model.safetensors"))
        asked = self.prompts[body["messages"][0]["content"][-1]["text"]]
        prompt = replace(asked, place=body["seed"] // body["n"])
        settings = SamplingSettings(max_new_tokens=body["max_completion_tokens"], temperature=body["temperature"])
        (found,) = TransformersSampler(self.model, self.processor).sample([prompt], body["n"], settings, seed=0)
        choices = [
            {
                "index": index,
                "token_ids": one.ids.tolist(),
                "finish_reason": "stop" if one.finished else "length",
                "logprobs": {"content": [{"logprob": logp} for logp in one.log_probs.tolist()]},
            }
            for index, one in enumerate(found)
            if one.log_probs is not None
        ]
        return {"prompt_token_ids": prompt.group.prompt_ids.tolist(), "choices": choices}

    def start_anew(self) -> None:
        """With nothing of what was pushed before."""
        self.adapters.clear()
        self.files.clear()
        self.place.come()


@pytest.fixture(scope="module")
def server(tiny_model) -> Iterator[PolicyServer]:
    made = PolicyServer(tiny_model("llava"))
    made.start_anew()
    yield made
    made.place.close()


def run(folder: Path, model: Path, server: PolicyServer, *, resume: bool = False) -> str:
    """What a run of eight steps says; every answer is trained on twice."""
    server.counts.clear()
    tree = {
        "model": str(model),
        "output_dir": str(folder),
        "resume": resume,
        "max_steps": 8,
        "eval_steps": 2,
        "logging_steps": 3,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "lora": {"r": RANK},
        "layout": "prefix",
        "objective": {"type": "grpo"},
        "sampler": {
            "type": "vllm",
            "mode": "server",
            "url": server.url,
            "server_timeout": PATIENCE,
            "num_generations": 4,
            "max_completion_length": 5,
            "num_iterations": 2,
            "completions_steps": 1,
        },
    }
    said, rows = io.StringIO(), prompts(ROWS)
    console = Console(file=said, width=1000)
    train(structure(normalise(tree)), data=rows, eval_data=rows[:2], rewards=[shortness], console=console)
    return said.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model, server) -> Path:
    """The folder of a run whose server stays."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, tiny_model("llava"), server)
    return folder


def test_the_server_has_the_policy_s_weights_and_each_prompt_is_seen_once(whole):
    assert max(curve(whole, "sampling/sampling_logp_difference/max")) < 1e-4
    rows = [row for _, row, _ in sampled(whole)[::4]]
    assert len(rows) == 8 and sorted(rows[:6]) == [f"rows:{i}" for i in range(6)]
    assert len(curve(whole, "eval_reward")) == 4


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_whose_server_went_away_goes_on_when_it_is_back(tmp_path, tiny_model, server, whole, moment):
    folder = tmp_path / "run"
    server.last = MOMENTS[moment]
    with pytest.raises(
        SamplerError, match=rf"cannot be reached.* for {PATIENCE} s .*go on from checkpoint-4 with --res"
    ):
        run(folder, tiny_model("llava"), server)
    assert not (folder / "sightline.json").exists()
    server.start_anew()
    assert "Resuming from" in run(folder, tiny_model("llava"), server, resume=True)
    assert sampled(folder) == sampled(whole)
    assert figures(folder) == figures(whole)
    assert same(weights(folder), weights(whole))


def test_a_resumed_run_whose_server_is_still_away_loses_nothing(tmp_path, tiny_model, server, whole):
    folder = tmp_path / "run"
    server.last = MOMENTS["while held-out prompts are answered"]
    for last, resume in ((server.last, False), (("/v1/load_lora_adapter", 1), True)):
        server.last = last
        with pytest.raises(SamplerError, match=r"go on from checkpoint-4 with --resume"):
            run(folder, tiny_model("llava"), server, resume=resume)
        server.start_anew()
    run(folder, tiny_model("llava"), server, resume=True)
    assert figures(folder) == figures(whole) and same(weights(folder), weights(whole))
