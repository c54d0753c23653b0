"""Which attention kernel serves which type and kind of layer: a table of docs/models.md.

python -m benchmarks.kernels   # writes it, from the configs alone; a second, no GPU

Decided by the code that training asks (`attention.choice`), for heads of the size that a published model or
transformers' own config has.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers as hf
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from sightline.attention.choice import states_refused
from sightline.models.families.family import head_sizes
from sightline.models.families.find import FAMILIES
from sightline.models.families.gemma import Gemma3Family, Gemma4UnifiedFamily
from sightline.models.families.llama4 import Llama4Family
from sightline.models.families.molmo import MolmoFamily
from sightline.rehearsal.tiny_models import real_config

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- written by `python -m benchmarks.kernels`: -->\n", "<!-- end of kernels -->\n"
AMPERE = (8, 0)
BLOCKS = (Gemma3Family, Gemma4UnifiedFamily, MolmoFamily)
"""Families whose images see themselves both ways in layers that see everything before them."""
STATES = {"linear_attention": "linear attention", "conv": "short convolutions"}
DENSE = "dense"


class Served(NamedTuple):
    """A kind of layer and what serves it on a CPU and on CUDA in half precision."""

    layers: str
    cpu: str
    cuda: str


def served(model_type: str) -> list[Served]:
    """The kinds of layer of a type."""
    config = real_config(model_type)
    text: Any = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    family = FAMILIES[model_type]
    full = _full(config, text, "blocks in prompts" if issubclass(family, BLOCKS) else "")
    found = [full] if not kinds or "full_attention" in kinds else []
    if "sliding_attention" in kinds or (not kinds and getattr(text, "sliding_window", None)):
        found.append(Served("window shorter than prompt + response", DENSE, DENSE))
    for kind in sorted(kinds & STATES.keys()):
        found.append(Served(STATES[kind], "forked state", "forked state"))
    if issubclass(family, Llama4Family):
        found.append(Served("chunked attention", DENSE, DENSE))
    if model_type == "mllama":
        found.append(Served("cross-attention to images", DENSE, DENSE))
    return found


def _full(config: Any, text: Any, blocks: str) -> Served:
    """Layers that see everything before them."""
    if not MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]._supports_sdpa:
        return Served("capped or otherwise its own", DENSE, DENSE)
    if getattr(text, "v_head_dim", None) is not None:
        return Served("values of another size", DENSE, DENSE)
    sizes = head_sizes(text)
    fits = all(states_refused(torch.bfloat16, size, AMPERE) is None for size in sizes)
    name = f"full, heads of {' and '.join(map(str, sizes))}"
    extra = ", prompts dense on [P × P]" if blocks else ""
    return Served(f"{name}, {blocks}" if blocks else name, f"cpu{extra}", f"cuda{extra}" if fits else DENSE)


def table() -> str:
    """The kinds of layer, with the types that have them."""
    types: dict[Served, list[str]] = {}
    for model_type in sorted(FAMILIES):
        for one in served(model_type):
            types.setdefault(one, []).append(model_type)
    lines = ["| layers | on a CPU | on CUDA in bfloat16 or float16 | types |", "|---|---|---|---|"]
    lines += [f"| {one.layers} | {one.cpu} | {one.cuda} | {', '.join(types[one])} |" for one in sorted(types)]
    return "\n".join(lines) + "\n"


def written() -> str:
    """The table in the page."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


if __name__ == "__main__":
    hf.logging.set_verbosity_error()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")
