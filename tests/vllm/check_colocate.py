"""Real vLLM in the training process: the trainer's log-probs after every sync; other weights are noticed."""

from pathlib import Path

import pytest
import torch

from sightline.config import ModelConfig
from sightline.config.data import DataConfig
from sightline.config.online import VLLMSamplerConfig
from sightline.data.render.render import Renderer
from sightline.errors import SamplerError
from sightline.generation.sampling import SamplingSettings
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.vllm_colocate import VLLMColocateSampler
from sightline.types import Prompt
from tests.vllm.models import save
from tests.vllm.runs import AGREE, CASES, differences, prompts, run, steps

COLOCATE = {"mode": "colocate", "max_model_len": 512}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return {family: save(family, tmp_path_factory.mktemp(family)) for family in ("qwen2_vl", "smolvlm")}


@pytest.mark.parametrize(("family", "lora"), CASES)
def test_log_probs_agree_after_every_sync(tmp_path: Path, model, family: str, lora: bool):
    run(tmp_path / "run", model[family], lora, COLOCATE)
    found = differences(tmp_path / "run")
    assert len(found) == 3 and max(found) < AGREE
    logged = steps(tmp_path / "run")
    assert all(line["seconds/generate"] > 0 and line["seconds/sync"] > 0 for line in logged)
    # the correction is on without being asked for, and has nothing to correct
    assert all(line["sampling/importance_sampling_ratio/max"] == pytest.approx(1, abs=AGREE) for line in logged)
    # the weights moved: what was compared at step 3 is not what was compared at step 1
    assert all(line["grad_norm"] > 0 for line in logged)


@pytest.mark.parametrize("lora", [True, False])
def test_log_probs_agree_where_vllm_runs_transformers_own_code(tmp_path: Path, model, lora: bool):
    """Not SmolVLM: its processor does not count the tokens of an image beforehand, which that back end asks for."""
    run(tmp_path / "run", model["qwen2_vl"], lora, COLOCATE | {"model_impl": "transformers"})
    found = differences(tmp_path / "run")
    assert len(found) == 3 and max(found) < AGREE


def test_a_sampler_that_kept_the_old_weights_is_caught(tmp_path: Path, model, monkeypatch):
    first = VLLMColocateSampler.sync

    def sync_once(self, policy):
        if self.num_syncs == 0:
            first(self, policy)

    monkeypatch.setattr(VLLMColocateSampler, "sync", sync_once)
    with pytest.raises(SamplerError, match="samples from other weights"):
        run(tmp_path / "run", model["qwen2_vl"], False, COLOCATE, learning_rate=5e-2, max_steps=5)
    checkpoint = max((tmp_path / "run").glob("checkpoint-*"))
    monkeypatch.undo()
    run(tmp_path / "run", model["qwen2_vl"], False, COLOCATE, learning_rate=5e-2, max_steps=5, resume=True)
    assert [line["step"] for line in steps(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert int(checkpoint.name.removeprefix("checkpoint-")) < 5 and max(differences(tmp_path / "run")) < AGREE


def test_seeds_stops_bans_and_limits_are_kept(model):
    config = ModelConfig(name=str(model["smolvlm"]))
    policy, processor = load_model(config), load_processor(config)
    dataset = PromptDataset(prompts(2), DataConfig(source="rows"), Renderer(processor))
    asked = [item for item in (dataset[i] for i in range(2)) if isinstance(item, Prompt)]
    sampler = VLLMColocateSampler(policy, processor, VLLMSamplerConfig(max_model_len=512), config, None)
    sampler.sync(policy)
    settings = SamplingSettings(max_new_tokens=12, temperature=1.0)
    one, again, other = (sampler.sample(asked, 16, settings, seed) for seed in (1, 1, 2))

    def ids(answers):
        return [answer.ids.tolist() for group in answers for answer in group]

    assert ids(one) == ids(again) != ids(other)
    ends = set(sampler.tokens.ends)
    for group in one:
        for answer in group:
            said = answer.ids.tolist()
            assert answer.finished == (said[-1] in ends) and len(said) <= 12
            assert not ends & set(said[:-1]) and not set(said) & set(family_of(policy).image_token_ids)
            assert answer.log_probs is not None and len(answer.log_probs) == len(said)
    greedy = sampler.sample(asked, 1, SamplingSettings(max_new_tokens=12, temperature=0.0), 0)
    text = processor.tokenizer.decode(greedy[0][0].ids)
    stop = SamplingSettings(max_new_tokens=12, temperature=0.0, stop=(text[2:4],))
    stopped = sampler.sample(asked, 1, stop, 0)[0][0]
    assert stopped.finished and len(stopped.ids) < len(greedy[0][0].ids)
    assert torch.equal(stopped.ids, greedy[0][0].ids[: len(stopped.ids)])
    sampler.close()
