"""vLLM in the training process ("colocate"): weights are handed over in memory, adapters as files.

On a GPU its memory is given back between rounds of sampling (sleep mode).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers import ProcessorMixin

from sightline.config.model import ModelConfig
from sightline.config.online import VLLMSamplerConfig
from sightline.errors import SamplerError
from sightline.generation.decoder import special_tokens
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.models.families.find import family_of
from sightline.models.load import dtype_of
from sightline.models.unwrap import unwrap
from sightline.rollouts.sampler import seeds_of
from sightline.rollouts.vllm_model import (
    MAX_IMAGES,
    check_same_prompt,
    checkpoint_weights,
    engine_folder,
    has_adapter,
    logprobs_mode,
    room_for_rank,
    sampling_parameters,
    save_adapter,
    token_prompt,
)
from sightline.types import Prompt


def refuse_where_it_cannot_run() -> None:
    """Raises `SamplerError` without vLLM, and in one of several processes."""
    if PartialState().num_processes > 1:
        raise SamplerError(
            "`sampler.mode: colocate` is for one process, and this run has "
            f"{PartialState().num_processes}. Start `sightline rollout-server` on a GPU of its own and use `mode: "
            "server`."
        )
    try:
        import vllm  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SamplerError(
            f"`sampler.type: vllm` with `mode: colocate` needs vLLM in this environment ({error}). Install it, or "
            "run vLLM elsewhere with `sightline rollout-server` and `mode: server`; docs/online.md has both."
        ) from None


@contextmanager
def classes_left_alone() -> Iterator[None]:
    """vLLM's transformers back end, made without what it does to transformers' own classes.

    To compile a model it gives its class another `__call__` and `__init__`, and so to the policy that this process
    trains: what was made before fails when it is called, and no other can be made. Without it nothing is compiled.
    """
    from vllm.model_executor.models.transformers import base  # pyright: ignore[reportMissingImports]

    given = base.support_torch_compile
    base.support_torch_compile = lambda **options: lambda decorated: decorated
    try:
        yield
    finally:
        base.support_torch_compile = given


class VLLMColocateSampler:
    """Samples from a vLLM engine in this process. lora_rank: of the adapter that will be trained; None without one."""

    exact = False

    def __init__(
        self,
        model: nn.Module,
        processor: ProcessorMixin,
        config: VLLMSamplerConfig,
        model_config: ModelConfig,
        lora_rank: int | None,
    ) -> None:
        refuse_where_it_cannot_run()
        self.processor, self.sleeps = processor, config.sleep and torch.cuda.is_available()
        self.family = family_of(model)
        self.tokens = special_tokens(processor, self.family)
        self.folder = engine_folder(model_config, processor)
        self.adapters = Path(tempfile.mkdtemp(prefix="sightline-adapter-"))
        self.adapter: Any = None
        self.num_syncs, self.asleep = 0, False
        self.engine = self._start(config, model_config, dtype_of(model_config, unwrap(model).device), lora_rank)

    def _start(
        self, config: VLLMSamplerConfig, model_config: ModelConfig, dtype: torch.dtype, lora_rank: int | None
    ) -> Any:
        # the weights are handed over as objects, which only works inside one process
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM  # pyright: ignore[reportMissingImports]

        adapter: dict[str, Any] = {}
        if lora_rank is not None:
            adapter = {"enable_lora": True, "max_lora_rank": room_for_rank(lora_rank), "max_loras": 1}
        # also what `auto` may come to, but vLLM has all of the families here itself
        with classes_left_alone() if config.model_impl == "transformers" else nullcontext():
            return LLM(
                model=str(self.folder),
                dtype=str(dtype).removeprefix("torch."),
                gpu_memory_utilization=config.gpu_memory_utilization,
                max_model_len=config.max_model_len,
                limit_mm_per_prompt={"image": MAX_IMAGES, "video": 0},
                enable_sleep_mode=self.sleeps,
                enforce_eager=not torch.cuda.is_available(),
                model_impl=config.model_impl,
                trust_remote_code=model_config.trust_remote_code,
                logprobs_mode=logprobs_mode(config),
                seed=0,
                **adapter,
            )

    def sync(self, policy: nn.Module) -> None:
        """Hand over the policy's weights and forget everything computed with the old ones."""
        self._wake()
        self.num_syncs += 1
        if has_adapter(policy):
            self._load_adapter(policy)
        else:
            weights = list(checkpoint_weights(policy))
            self.engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        # without all three, generation dies of an encoder cache miss
        self.engine.reset_mm_cache()
        self.engine.llm_engine.reset_encoder_cache()
        self.engine.reset_prefix_cache()

    def _load_adapter(self, policy: nn.Module) -> None:
        """Under a new name each time, so that nothing cached under the old one is used."""
        from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

        if self.adapter is not None:
            self.engine.llm_engine.remove_lora(self.adapter.lora_int_id)
            shutil.rmtree(self.adapter.lora_path)
        folder = self.adapters / str(self.num_syncs)
        save_adapter(policy, folder)
        self.adapter = LoRARequest(f"policy-{self.num_syncs}", self.num_syncs, str(folder))

    def sample(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """See `Sampler.sample`. Raises `SamplerError` where vLLM reads another prompt than training."""
        from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

        shared = sampling_parameters(settings, self.tokens.ends, self.tokens.banned)
        parameters = [
            SamplingParams(
                n=num_responses,
                max_tokens=settings.max_new_tokens,
                seed=own,
                logprobs=0,
                detokenize=bool(settings.stop),
                **shared,
            )
            for own in seeds_of(prompts, num_responses, seed)
        ]
        self._wake()
        asked = [token_prompt(prompt, self.processor) for prompt in prompts]
        found = self.engine.generate(asked, parameters, use_tqdm=False, lora_request=self.adapter)
        for prompt, request in zip(prompts, found, strict=True):
            check_same_prompt(prompt, list(request.prompt_token_ids))
        if self.sleeps:
            self.engine.sleep(level=1)
            self.asleep = True
        return [[_sampled(completion) for completion in request.outputs] for request in found]

    def _wake(self) -> None:
        if self.asleep:
            self.engine.wake_up()
            self.asleep = False

    def close(self) -> None:
        """End the engine and delete its files."""
        self.engine.llm_engine.engine_core.shutdown()
        del self.engine
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.adapters, ignore_errors=True)


def _sampled(completion: Any) -> Sampled:
    ids = list(completion.token_ids)
    log_probs = [by_token[token].logprob for by_token, token in zip(completion.logprobs, ids, strict=True)]
    return Sampled(
        ids=torch.tensor(ids), log_probs=torch.tensor(log_probs), finished=completion.finish_reason == "stop"
    )
