"""What a DPO or GRPO step with a reference cannot take less than, by arithmetic: a model, not a measurement.

python -m benchmarks.gpu.roofline   # prints the table of docs/benchmarks.md

Counted: matrix products of tower (once), language model (reference, policy, and the gradient of frozen weights' inputs)
and head, and attention's scores, for one micro-batch of a frozen Qwen2.5-VL with LoRA. Left out: element-wise work,
adapters, launches, the optimizer, the processor; the tower's own attention. A real step takes longer.
"""

from typing import NamedTuple

from benchmarks.step.qwen import MERGE, PATCH, QWEN_3B, QWEN_7B, QwenSizes

PRODUCTS = 790e12
"""FLOP/s of bfloat16 products, whatever their size: what large ones reach on an H200."""
MASKED = (130e12, 75e12)
"""Of memory-efficient attention under a dense mask, forward and backward; all scores are computed."""
FLASH = (330e12, 260e12)
"""Of FlashAttention 2, forward and backward; scores that are seen."""
PROMPT = 1100


class Case(NamedTuple):
    """K responses of C tokens to each of some prompts."""

    name: str
    sizes: QwenSizes
    responses: int
    length: int
    prompts: int


CASES = (
    Case("3B", QWEN_3B, 2, 200, 1),
    Case("3B", QWEN_3B, 2, 200, 4),
    Case("7B", QWEN_7B, 2, 200, 1),
    Case("7B", QWEN_7B, 2, 200, 4),
    Case("7B", QWEN_7B, 8, 200, 1),
    Case("7B", QWEN_7B, 8, 512, 1),
)


class Modelled(NamedTuple):
    """Milliseconds."""

    products: float
    dense: float
    spans: float


def modelled(case: Case) -> Modelled:
    """Products, and attention under a dense mask and by spans."""
    sizes, total = case.sizes, PROMPT + case.responses * case.length
    seen = PROMPT**2 / 2 + PROMPT * case.responses * case.length + case.responses * case.length**2 / 2
    products = case.prompts * products_of(case) / PRODUCTS
    # two products a score forward (policy and reference), five backward
    scores = case.prompts * sizes.layers * sizes.hidden * 2
    dense = scores * total**2 * (2 * 2 / MASKED[0] + 5 / MASKED[1])
    spans = scores * seen * (2 * 2 / FLASH[0] + 5 / FLASH[1])
    return Modelled(1e3 * products, 1e3 * dense, 1e3 * spans)


def products_of(case: Case) -> float:
    """FLOPs of the matrix products of one prompt."""
    sizes, responses = case.sizes, case.responses * case.length
    shared = sizes.hidden * sizes.hidden * sizes.key_heads // sizes.heads
    layer = 2 * sizes.hidden**2 + 2 * shared + 3 * sizes.hidden * sizes.intermediate
    language = 3 * 2 * sizes.layers * layer * (PROMPT + responses)
    tower_layer = 4 * sizes.vision_hidden**2 + 3 * sizes.vision_hidden * sizes.vision_intermediate
    patches = (sizes.image // PATCH) ** 2
    merged = sizes.vision_hidden * MERGE**2
    tower = 2 * patches * sizes.vision_layers * tower_layer
    projector = 2 * patches // MERGE**2 * merged * (merged + sizes.hidden)
    # logits of policy and reference, and the rows that are kept for backward
    head = 3 * 2 * responses * sizes.hidden * sizes.vocabulary
    return float(language + tower + projector + head)


def table() -> str:
    """The cases as Markdown."""
    head = "| | products, ms | attention under a dense mask, ms | by spans, ms | sum before → after |"
    lines = [head, "|---|---|---|---|---|"]
    for case in CASES:
        one = modelled(case)
        groups = "1 prompt" if case.prompts == 1 else f"{case.prompts} prompts"
        name = f"{case.name}, K = {case.responses}, C = {case.length}, {groups}"
        both = f"{one.products + one.dense:.0f} → {one.products + one.spans:.0f}"
        lines.append(f"| {name} | {one.products:.0f} | {one.dense:.0f} | {one.spans:.0f} | {both} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
