"""How vLLM in process is set up, put to sleep and woken; what it computes is checked by tests/vllm."""

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sightline.config import LoraConfig, ModelConfig
from sightline.config.data import DataConfig
from sightline.config.online import VLLMSamplerConfig
from sightline.data.render.render import Renderer
from sightline.errors import SamplerError
from sightline.generation.sampling import SamplingSettings
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.vllm_colocate import VLLMColocateSampler
from sightline.rollouts.vllm_model import save_adapter
from tests.training.test_online import prompts

BACK_END = "vllm.model_executor.models.transformers"


class Engine:
    """In the place of `vllm.LLM`: notes what is asked of it, in order."""

    def __init__(self, **options: Any) -> None:
        self.options, self.done = options, []
        self.decorate = sys.modules[BACK_END].base.support_torch_compile
        self.llm_engine = SimpleNamespace(
            reset_encoder_cache=lambda: self.done.append("reset_encoder_cache"),
            engine_core=SimpleNamespace(shutdown=lambda: self.done.append("shutdown")),
        )

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.done.append(name)

    def generate(self, prompts: list[Any], *_: Any, **__: Any) -> list[Any]:
        self.done.append("generate")
        answer = SimpleNamespace(token_ids=[7], logprobs=[{7: SimpleNamespace(logprob=-1.0)}], finish_reason="stop")
        return [SimpleNamespace(prompt_token_ids=self.reads[i], outputs=[answer]) for i in range(len(prompts))]


@pytest.fixture
def made(tiny_model, monkeypatch):
    """A sampler that believes to have a GPU, and two prompts."""
    module: Any = ModuleType("vllm")
    module.LLM, module.SamplingParams = Engine, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    back_end: Any = ModuleType(BACK_END)
    back_end.base = SimpleNamespace(support_torch_compile="vLLM's own")
    monkeypatch.setitem(sys.modules, BACK_END, back_end)
    config = ModelConfig(name=str(tiny_model("llava")))
    model, processor = load_model(config), load_processor(config)
    dataset = PromptDataset(prompts(2), DataConfig(source="rows"), Renderer(processor))
    sampling = VLLMSamplerConfig(model_impl="transformers", max_model_len=77, temperature=0.5)
    with monkeypatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)
        sampler = VLLMColocateSampler(model, processor, sampling, config, 20)
    asked = [dataset[i] for i in range(2)]
    sampler.engine.reads = [prompt.group.prompt_ids.tolist() for prompt in asked]
    return sampler, model, asked


def test_the_recipes_options_reach_vllm(made):
    options = made[0].engine.options
    assert options["model_impl"] == "transformers" and options["max_model_len"] == 77
    assert options["enable_lora"] and options["max_lora_rank"] == 32
    assert options["enable_sleep_mode"] and options["logprobs_mode"] == "processed_logprobs"


def test_vllms_transformers_back_end_is_made_without_touching_the_policys_classes(made):
    class Policy:
        pass

    assert made[0].engine.decorate(dynamic_arg_dims=None)(Policy) is Policy
    assert sys.modules[BACK_END].base.support_torch_compile == "vLLM's own"


def test_it_sleeps_after_sampling_and_wakes_before_it_is_needed(made):
    sampler, model, asked = made
    settings = SamplingSettings(max_new_tokens=3)
    sampler.sync(model)
    sampler.sample(asked, 1, settings, 0)
    sampler.sample(asked, 1, settings, 1)
    sampler.sync(model)
    forget = ["collective_rpc", "reset_mm_cache", "reset_encoder_cache", "reset_prefix_cache"]
    assert sampler.engine.done == [*forget, "generate", "sleep", "wake_up", "generate", "sleep", "wake_up", *forget]


def test_its_files_go_when_it_is_closed(made):
    sampler = made[0]
    assert (sampler.folder / "model.safetensors").is_symlink()
    assert (sampler.folder / "config.json").exists() and not (sampler.folder / "tokenizer.json").is_symlink()
    sampler.close()
    assert not sampler.folder.exists() and not sampler.adapters.exists()


def test_without_vllm_the_run_is_told_what_to_install(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    config = ModelConfig(name=str(tiny_model("llava")))
    with pytest.raises(SamplerError, match="needs vLLM in this environment"):
        VLLMColocateSampler(load_model(config), load_processor(config), VLLMSamplerConfig(), config, None)


def test_several_processes_are_sent_to_a_server(tiny_model, monkeypatch):
    monkeypatch.setattr("sightline.rollouts.vllm_colocate.PartialState", lambda: SimpleNamespace(num_processes=2))
    config = ModelConfig(name=str(tiny_model("llava")))
    with pytest.raises(SamplerError, match="for one process, and this run has 2"):
        VLLMColocateSampler(load_model(config), load_processor(config), VLLMSamplerConfig(), config, None)


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"init": "pissa"}, {"use_rslora": True}], ids=str)
def test_an_adapter_to_train_further_is_refused_where_vllm_would_have_another_model(tmp_path, tiny_model, lora):
    name = str(tiny_model("llava"))
    add_lora(load_model(ModelConfig(name=name)), LoraConfig(r=2, **lora)).save_pretrained(str(tmp_path / "adapter"))
    policy = add_lora(load_model(ModelConfig(name=name)), LoraConfig(adapter=str(tmp_path / "adapter")))
    if "use_rslora" in lora:
        save_adapter(policy, tmp_path / "saved")
        assert json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["use_rslora"] is True
        return
    with pytest.raises(SamplerError, match=r"take `sampler\.type: transformers`"):
        save_adapter(policy, tmp_path / "saved")
