"""What vLLM loads, and how a policy's weights become what vLLM reads: checkpoint names, adapter files."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.core_model_loading import revert_weight_conversion

from sightline.config.model import ModelConfig
from sightline.config.online import VLLMSamplerConfig
from sightline.errors import SamplerError
from sightline.generation.sampling import SamplingSettings
from sightline.models.adapter import changes_base
from sightline.models.load import EMBEDDED
from sightline.models.unwrap import unwrap, without_engine
from sightline.types import Prompt

MAX_IMAGES = 16
"""Images of one prompt that vLLM takes."""

ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM can make room for."""


def engine_folder(config: ModelConfig, processor: ProcessorMixin) -> Path:
    """A temporary folder with the model's own weights (linked, not copied) and this run's processor.

    A model of the hub must have been downloaded. The caller deletes the folder.
    """
    source = EMBEDDED if config.name == "embedded" else Path(config.name)
    if not source.is_dir():
        source = Path(snapshot_download(config.name, revision=config.revision, local_files_only=True))
    folder = Path(tempfile.mkdtemp(prefix="sightline-vllm-"))
    for file in source.iterdir():
        if file.is_file():
            os.symlink(file.resolve(), folder / file.name)
    written = Path(tempfile.mkdtemp(dir=folder, prefix=".processor-"))
    processor.save_pretrained(written)
    for file in written.iterdir():
        os.replace(file, folder / file.name)
    written.rmdir()
    return folder


def checkpoint_weights(policy: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All weights by the names that a checkpoint of this model has, which are those that vLLM's loaders know."""
    model = unwrap(policy)
    yield from revert_weight_conversion(model, model.state_dict()).items()


def save_adapter(policy: nn.Module, folder: Path) -> None:
    """The adapter as peft writes it, which is what vLLM reads. Raises `SamplerError` for one that vLLM cannot have."""
    adapted = without_engine(policy)
    assert isinstance(adapted, PeftModel)
    (config,) = adapted.peft_config.values()
    # the recipe's own are refused with the recipe; this one came with `lora.adapter`
    if changes_base(config.to_dict()) or getattr(config, "use_dora", False):
        raise SamplerError(
            "`lora.adapter` names an adapter of DoRA, or one whose start was taken out of the base's weights (PiSSA). "
            "vLLM would sample from another model than the one that is trained: take `sampler.type: transformers`, or "
            "`sightline export` that run and train on with its model."
        )
    adapted.save_pretrained(str(folder))


def save_weights(policy: nn.Module, folder: Path) -> None:
    """All weights as a checkpoint."""
    model = unwrap(policy)
    assert isinstance(model, PreTrainedModel)
    model.save_pretrained(folder)


def has_adapter(policy: nn.Module) -> bool:
    """Whether what is trained is an adapter."""
    return isinstance(without_engine(policy), PeftModel)


def sampling_parameters(settings: SamplingSettings, end_ids: list[int], banned: list[int]) -> dict[str, Any]:
    """What both modes of vLLM call by the same names. top_k 0 is all, temperature 0 is greedy, as with ours."""
    return {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "top_k": settings.top_k,
        "min_p": settings.min_p,
        "stop": list(settings.stop) or None,
        "include_stop_str_in_output": True,
        "stop_token_ids": end_ids,
        "skip_special_tokens": False,
        # a sampled placeholder would ask for an image that is not there
        "logit_bias": dict.fromkeys(banned, -100.0),
    }


def logprobs_mode(config: VLLMSamplerConfig) -> str:
    """Log-probs of the whole vocabulary where sampling is at temperature 1; else of what was sampled from."""
    return "raw_logprobs" if config.temperature == 1 else "processed_logprobs"


def room_for_rank(rank: int) -> int:
    """The smallest of vLLM's ranks that an adapter of this one fits. Raises `SamplerError`."""
    fitting = [room for room in ADAPTER_RANKS if room >= rank]
    if not fitting:
        raise SamplerError(f"vLLM takes adapters up to rank {ADAPTER_RANKS[-1]}, but `lora.r` is {rank}. Lower it.")
    return fitting[0]


def token_prompt(prompt: Prompt, processor: ProcessorMixin) -> dict[str, Any]:
    """Token ids with one placeholder an image, and the images: vLLM expands placeholders itself.

    Ids that are expanded already would be expanded once more (SmolVLM; vLLM issue 6294 of TRL's tracker).
    """
    text, tokenizer = prompt.text, processor.tokenizer
    bos = tokenizer.bos_token
    ids = tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))["input_ids"]
    images = [image.open() for image in prompt.images]
    return {"prompt_token_ids": ids, **({"multi_modal_data": {"image": images}} if images else {})}


def check_same_prompt(prompt: Prompt, ids: list[int]) -> None:
    """Raise `SamplerError` where vLLM read another prompt than training will: another template or image size."""
    ours = prompt.group.prompt_ids.tolist()
    if ids == ours:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, ids, strict=False)) if a != b), min(len(ours), len(ids)))
    raise SamplerError(
        f"vLLM reads the prompt of {prompt.id} as {len(ids)} tokens, training as {len(ours)}; they first differ at "
        f"token {at}. Chat template, processor options (image size, splitting) or tokenizer are not the same: start "
        "the server with `sightline rollout-server` and this recipe, which gives it this run's processor."
    )
