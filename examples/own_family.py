"""A family of your own: what differs in a model type that Sightline does not know, or knows otherwise.

    model: {name: path/to/model, family: "examples/own_family.py:MyLlava"}

A type without a family is tried as the ordinary case, and padded where that is not exact. A family says how prompts
are placed (positions, blocks that see each other both ways), what of the processor's output runs along tokens, and how
image features enter; `Family` is the ordinary case (LLaVA, Idefics, InternVL). At the start of each run one real row
goes through both layouts; if they differ, the run falls back to the padded one and says so.
"""

from dataclasses import replace
from typing import ClassVar

import torch

from sightline.models.families.family import Family
from sightline.types import Group


class MyLlava(Family):
    """LLaVA by hand: everything here is what `Family` does already, written out."""

    layout = "prefix"
    along_tokens: ClassVar[dict[str, int]] = {}  # no `token_type_ids` or the like

    def place(self, group: Group) -> Group:
        """Prompt tokens count from 0; every response begins where the prompt ends; no block sees both ways."""
        length = len(group.prompt_ids)
        positions, causal = torch.arange(length), torch.full((length,), -1)
        return replace(group, positions=positions, next_position=length, block=causal)
