"""A prompt as vLLM wants it, and whether vLLM made the same of it as we did."""

from typing import Any

from transformers import ProcessorMixin

from sightline.errors import SamplerError
from sightline.types import Prompt


def token_prompt(prompt: Prompt, processor: ProcessorMixin) -> dict[str, Any]:
    """Token ids with one placeholder a picture, and the pictures: vLLM expands placeholders itself.

    Ids that are expanded already would be expanded once more (SmolVLM; vLLM issue 6294 of TRL's tracker).
    """
    text, tokenizer = prompt.text, processor.tokenizer
    bos = tokenizer.bos_token
    ids = tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))["input_ids"]
    pictures = [picture.open() for picture in prompt.images]
    return {"prompt_token_ids": ids, **({"multi_modal_data": {"image": pictures}} if pictures else {})}


def check_same_prompt(prompt: Prompt, ids: list[int]) -> None:
    """Raise `SamplerError` where vLLM read another prompt than training will: another template or picture size."""
    ours = prompt.group.prompt_ids.tolist()
    if ids == ours:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, ids, strict=False)) if a != b), min(len(ours), len(ids)))
    raise SamplerError(
        f"vLLM reads the prompt of {prompt.id} as {len(ids)} tokens, training as {len(ours)}; they first differ at "
        f"token {at}. Chat template, processor options (picture size, splitting) or tokenizer are not the same: start "
        "the server with `sightline rollout-server` and this recipe, which gives it this run's processor."
    )
