"""What is measured: the settings of the table, and the two sweeps of the growth plot."""

from dataclasses import replace

from benchmarks.step.case import Case, Program

SETTINGS: dict[str, Case] = {
    "dpo": Case(program="sightline", task="dpo", responses=2, groups=2, beta=0.1, learning_rate=1e-4),
    "grpo": Case(program="sightline", task="grpo", responses=8, groups=1, beta=0.04, learning_rate=1e-4),
    "grpo-no-kl": Case(program="sightline", task="grpo", responses=8, groups=1, beta=0.0, learning_rate=1e-4),
}
SETTINGS |= {f"{name}-hybrid": replace(SETTINGS[name], shape="qwen3.5-40m") for name in ("dpo", "grpo")}
"""Step = 2 pairs for DPO; one prompt with 8 answers for GRPO, with a reference (β > 0) and without (β = 0)."""

DEFAULT = ("dpo", "grpo", "growth")
"""What `make bench` runs; the others are there for whoever asks for them."""
TOYS = {"smolvlm-36m": "smolvlm-toy", "qwen3.5-40m": "qwen3.5-toy"}

TITLES = {
    "dpo": "K = 2: DPO",
    "grpo": "K = 8: GRPO, β = 0.04",
    "grpo-no-kl": "K = 8: GRPO, β = 0",
    "dpo-hybrid": "K = 2: DPO, three layers of four gated delta nets",
    "grpo-hybrid": "K = 8: GRPO, β = 0.04, three layers of four gated delta nets",
}

GRIDS = {128: (1, 1), 256: (1, 2), 512: (2, 3), 1024: (3, 4), 2048: (5, 5)}
"""Prompt tokens → tiles of its image (rows, columns); an image of several tiles comes once more as a whole."""


def case_of(setting: str, program: Program, *, toy: bool = False, **changes: object) -> Case:
    """The setting for a program. Sightline takes one prompt a forward and accumulates; TRL takes the whole step, which
    is what `per_device_train_batch_size` alone gives its users."""
    case = SETTINGS[setting]
    forward_groups = 1 if program == "sightline" else case.groups
    case = replace(case, program=program, forward_groups=forward_groups)
    if toy:
        case = replace(case, shape=TOYS[case.shape], prompt_tokens=200, response_tokens=32)
    return replace(case, **changes)


def growth_cases(program: Program, *, toy: bool = False) -> list[tuple[str, int, Case]]:
    """(axis, its value, case): K from 1 to 16 at P = 512, and P from 128 to 2048 at K = 4; one prompt a step.

    K = 1 is SFT, since TRL's GRPO takes no group of one: the same work, a forward and a backward over one response.
    """
    base = case_of("grpo-no-kl", program, toy=toy, steps=4, threads=1, warmup=1)
    responses = (1, 2, 4) if toy else (1, 2, 4, 8, 16)
    prompts = ((200, (2, 3)), (400, (3, 4))) if toy else tuple(GRIDS.items())
    by_k = [
        replace(base, task="sft" if k == 1 else "grpo", responses=k, prompt_tokens=prompts[0][0] if toy else 512)
        for k in responses
    ]
    by_p = [replace(base, responses=4, prompt_tokens=p, grid=grid) for p, grid in prompts]
    return [("K", case.responses, case) for case in by_k] + [("P", case.prompt_tokens, case) for case in by_p]
