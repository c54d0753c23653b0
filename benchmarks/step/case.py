"""What one run of one program does, and what it measured: plain records that travel between processes as JSON."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

Program = Literal["sightline", "trl", "compact"]
"""trl: TRL as installed. compact: TRL with its fused head made to score response positions only."""
Task = Literal["dpo", "grpo", "sft"]

PROGRAMS: tuple[Program, ...] = ("sightline", "trl", "compact")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: a program, a task, and the sizes. Two runs that differ in `program` alone do the same work.

    shape: name of a model in `shapes.SHAPES`. responses: K. groups: prompts a step. prompt_tokens: P, exactly.
    response_tokens: C, the mean; lengths vary by some 6%. beta: of DPO, or of GRPO's KL (0: no reference).
    forward_groups: prompts that go through one forward; fewer than `groups` accumulates gradients.
    steps: optimizer steps; the first `warmup` and the last are not counted. threads: torch's. workers: the loader's.
    samples: answers are sampled in the step, all of response_tokens' length; else they are read from the data.
    count_flops: count every matrix product of the last step. in_memory: the model is made in place of being loaded.
    attention: Sightline's `model.attn_implementation`; TRL keeps transformers' own.
    """

    program: Program
    task: Task
    shape: str = "smolvlm-36m"
    responses: int = 2
    groups: int = 2
    forward_groups: int = 2
    prompt_tokens: int = 520
    grid: tuple[int, int] = (2, 3)
    response_tokens: int = 64
    beta: float = 0.1
    lora_rank: int = 16
    learning_rate: float = 5e-4
    steps: int = 8
    warmup: int = 1
    threads: int = 1
    workers: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    gradient_checkpointing: bool = False
    samples: bool = False
    count_flops: bool = False
    in_memory: bool = False
    attention: Literal["auto", "sdpa", "eager", "flex_attention"] = "auto"

    @property
    def counted(self) -> slice:
        """Steps whose time counts: after the warm-up, and not the last, which loads no data for a next one."""
        return slice(self.warmup, self.steps - 1)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run measured. Lists have one entry a step, the uncounted first ones included.

    wall, cpu: seconds of a step, from the end of the step before: data loading, forward, backward, update, logging.
    waited: seconds of it in which the loop waited for the data loader.
    tiles: tiles that went through the vision tower, summed over passes. language_tokens: positions that the language
    model computed, padding included. memory: highest bytes of the process above the loaded model. flops: of one step,
    counted; 0 where not asked for. start, way: the adapter's weights before the first step, and how far they went,
    along some fixed random directions.
    """

    wall: list[float]
    cpu: list[float]
    waited: list[float]
    tiles: list[int]
    language_tokens: list[int]
    losses: list[float]
    gradient_norms: list[float]
    memory: int
    model_bytes: int
    tiles_a_image: int
    prompt_tokens: int
    flops: dict[str, float] = field(default_factory=dict)
    start: list[float] = field(default_factory=list)
    way: list[float] = field(default_factory=list)
    load: float = 0.0
    device: str = "cpu"

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def read_case(text: str) -> Case:
    """The case that `Case.to_json` wrote."""
    values = json.loads(text)
    return Case(**{**values, "grid": tuple(values["grid"])})


def read_measured(text: str) -> Measured:
    """The record that `Measured.to_json` wrote."""
    values = json.loads(text)
    assert values.keys() == {f.name for f in fields(Measured)}
    return Measured(**values)
