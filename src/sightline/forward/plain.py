"""The plainest way to log-probs: one ordinary call of the model for each response, pixels and all.

What the layouts are compared with. It shares no code with them: ids one after another, a mask of ones, no positions,
the whole logits.
"""

import torch
from torch import Tensor, nn

from sightline.types import Group

BEHIND_RESPONSE = {"mm_token_type_ids": 0, "token_type_ids": 0, "moe_mm_token_type_ids": 0}
"""What continues these inputs along a response; PaliGemma marks its suffix with 1."""


def log_probs(model: nn.Module, group: Group, model_type: str) -> list[Tensor]:
    """[C] log-probs of each response of the group, weights aside."""
    return [_response(model, group, response, model_type) for response in group.responses]


def _response(model: nn.Module, group: Group, response: Tensor, model_type: str) -> Tensor:
    device = next(model.parameters()).device
    ids = torch.cat([group.prompt_ids, response])[None].to(device)
    inputs = {
        name: value.to(device) if isinstance(value, Tensor) else value for name, value in group.model_inputs.items()
    }
    for name, fill in BEHIND_RESPONSE.items():
        if name in inputs:
            fill = 1 if model_type == "paligemma" else fill
            inputs[name] = torch.cat([inputs[name], inputs[name].new_full((1, len(response)), fill)], 1)
    if "cross_attention_mask" in inputs:
        mask = inputs["cross_attention_mask"]
        inputs["cross_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, len(response), -1, -1)], 1)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **inputs).logits
    predicted = logits[0, len(group.prompt_ids) - 1 : -1].float()
    return predicted.log_softmax(-1).gather(-1, response[:, None].to(device))[:, 0]
