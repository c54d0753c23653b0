"""One answer, token by token: every step is one forward, so that several models can take turns on one loaded base."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import DynamicCache, ProcessorMixin

from sightline.generation.generate import generate, token_settings
from sightline.models.families.find import family_of
from sightline.models.unwrap import in_eval_mode
from sightline.types import Group


def stream(model: nn.Module, processor: ProcessorMixin, group: Group, *, max_new_tokens: int) -> Iterator[int]:
    """The tokens of the greedy answer to one prompt, its end token left out.

    Each `next()` runs the model once, with whatever adapter is in force then; its past is kept here. A model whose past
    is more than keys and values (`shares_prompt` in `generation.decode`) answers at once, with the first `next()`.
    """
    family = family_of(model)
    settings = token_settings(family.model, processor, family)
    ends = settings["eos_token_id"]
    if family.layout != "prefix" or family.name == "mllama":
        (answer,) = generate(model, processor, [group], max_new_tokens=max_new_tokens)[0]
        yield from (int(token) for token in answer if int(token) not in ends)
        return
    device = family.model.device
    placed = family.place(group)
    assert placed.positions is not None
    cache = DynamicCache(config=family.model.config.get_text_config())
    inputs = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in placed.model_inputs.items()}
    ids, positions, next_position = placed.prompt_ids[None], placed.positions[..., None, :], placed.next_position
    length = len(placed.prompt_ids)
    for step in range(max_new_tokens):
        # no `with` around a yield: the mode would stay whatever it is while the caller runs another model
        with torch.no_grad(), in_eval_mode(model):
            output = family.model(
                input_ids=ids.to(device),
                attention_mask=torch.ones(1, length + step, dtype=torch.long, device=device),
                position_ids=positions.to(device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                **inputs,
            )
        logits = output.logits[0, -1]
        logits[settings["suppress_tokens"] or []] = -torch.inf
        token = int(logits.argmax())
        if token in ends:
            return
        yield token
        inputs, ids = {}, torch.tensor([[token]])
        positions = torch.full_like(positions[..., :1], next_position + step)
