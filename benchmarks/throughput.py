"""Expected throughput from a model of costs: `python -m benchmarks.throughput [--model M] [--mfu 0.4]`. Nothing runs.

A step costs arithmetic, traffic between processes, and waiting for the slowest:

    arithmetic   2 FLOPs a weight and token: a forward; 2 more for the gradient of activations; 2 more for that of
                 weights that train. Prompt and images once a group, P + ΣC tokens a forward; tower once an image.
    ddp          all-reduce of the trained weights' gradients, 2 (R − 1)/R of their bytes, once a step
    fsdp2        all-gather of all weights in forward and again in backward, reduce-scatter of gradients, (R − 1)/R of
                 the bytes each, every micro-batch; the larger of this and arithmetic counts, since they overlap
    sampling     a token reads all weights once for all answers of a batch, and each answer's keys and values: the
                 larger of that at the memory's bandwidth and 2 FLOPs a weight and token
    waiting      the idle share of `benchmarks/balance.py`, by tokens

Left out: optimizer, data loading (it overlaps), attention's own quadratic FLOPs (some percent at these lengths).
"""

import argparse
from dataclasses import dataclass, replace

from benchmarks.balance import idle_share, skewed_lengths
from sightline.memory.shapes import find_config
from sightline.memory.skeleton import build_skeleton
from sightline.models.families.find import family_of
from sightline.models.unwrap import unwrap
from sightline.recipe import normalise, structure


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A GPU and what is between GPUs; bytes and FLOPs a second. The defaults are an H100's and eight in a host.

    mfu, memory_share: how much of the peak products and the reading of weights reach.
    """

    flops: float = 989e12
    mfu: float = 0.40
    memory: float = 3.35e12
    memory_share: float = 0.5
    within_host: float = 300e9
    between_hosts: float = 40e9
    gpus_a_host: int = 8

    def link(self, processes: int) -> float:
        """Bytes a second of the slowest link that a ring over so many processes crosses."""
        return self.within_host if processes <= self.gpus_a_host else self.between_hosts


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model and its rows: weights that a token passes, those of the tower, the adapter's, tokens of a row."""

    language: float
    tower: float
    adapter: float
    prompt: int = 1000
    patches: int = 3200
    response: int = 200
    kv_bytes: float = 57344.0


def shape_of(model: str) -> Shape:
    """Counted on the model without weights."""
    recipe = structure(normalise({"model": model, "lora": {"r": 16}, "objective": {"type": "dpo"}}))
    policy = build_skeleton(find_config(recipe.model), recipe)
    family, config = family_of(policy), unwrap(policy).config.get_text_config()
    sizes = {"language": 0, "tower": 0, "adapter": 0}
    for name, weight in family.model.named_parameters():
        part = "adapter" if "lora_" in name else "tower" if family.part_of(name) == "vision" else "language"
        # an embedding is looked up, not multiplied
        sizes[part] += 0 if "embed_tokens" in name else weight.numel()
    heads = config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
    return Shape(**{name: float(n) for name, n in sizes.items()}, kv_bytes=4.0 * config.num_hidden_layers * heads)


def pair_flops(shape: Shape, *, full: bool) -> float:
    """A DPO pair: reference forward, policy forward and backward over P + 2C tokens, the tower once."""
    tokens = shape.prompt + 2 * shape.response
    return (8 if full else 6) * shape.language * tokens + 2 * shape.tower * shape.patches


def traffic_seconds(shape: Shape, machine: Machine, processes: int, engine: str, *, full: bool) -> float:
    """Of a micro-batch with fsdp2, of a step with ddp. Trained weights travel in float32, frozen ones in bfloat16."""
    if processes == 1:
        return 0.0
    trained = shape.language if full else shape.adapter
    part = (processes - 1) / processes / machine.link(processes)
    if engine == "ddp":
        return 2 * 4 * trained * part
    weights = 4 * shape.language if full else 2 * shape.language
    # the reference's forward gathers the same weights where the adapter is switched off; a frozen copy is whole
    return ((2 if full else 3) * weights + 4 * trained) * part


def pairs_a_second(
    shape: Shape, machine: Machine, processes: int, engine: str, *, full: bool, rows: int, rows_a_forward: int
) -> float:
    """DPO pairs of all processes; rows: of a process and step."""
    computing = rows * pair_flops(shape, full=full) / (machine.flops * machine.mfu)
    traffic = traffic_seconds(shape, machine, processes, engine, full=full)
    seconds = computing + traffic if engine == "ddp" else max(computing, rows / rows_a_forward * traffic)
    idle = idle_share(skewed_lengths(2048), world=processes, rows_each=rows, balanced=True) if processes > 1 else 0.0
    return processes * rows * (1 - idle) / seconds


def sampling_seconds(shape: Shape, machine: Machine, answers: int) -> float:
    """For so many answers at a time on one GPU, weights in bfloat16."""
    arithmetic = 2 * shape.language * answers / (machine.flops * machine.mfu)
    reading = (2 * shape.language + answers * shape.kv_bytes * (shape.prompt + shape.response / 2)) / (
        machine.memory * machine.memory_share
    )
    return shape.response * max(arithmetic, reading)


def online_step(
    shape: Shape, machine: Machine, trainers: int, servers: int, *, prompts: int = 256, answers: int = 8
) -> float:
    """Seconds of a GRPO step: sampling on the servers (0: on the trainers themselves), then the update; β = 0, LoRA."""
    samplers = servers or trainers
    sampling = sampling_seconds(shape, machine, max(1, prompts * answers // samplers))
    tokens = prompts * (shape.prompt + answers * shape.response)
    update = (4 * shape.language * tokens + 2 * shape.tower * shape.patches * prompts) / (machine.flops * machine.mfu)
    return sampling + update / trainers


def main() -> None:
    """Print the tables of docs/multi-gpu.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen2.5-VL-7B-Instruct")
    parser.add_argument("--mfu", type=float, default=0.40, help="share of the GPU's peak that products reach [0.40]")
    given = parser.parse_args()
    shape, machine = shape_of(given.model), Machine(mfu=given.mfu)
    weights = f"{shape.language / 1e9:.2f} B weights a token passes, tower {shape.tower / 1e9:.2f} B"
    print(f"{given.model}: {weights}, adapter {shape.adapter / 1e6:.0f} M; MFU {given.mfu}")
    print(f"P = {shape.prompt}, C = {shape.response}, {shape.patches} patches")
    print("| GPUs | LoRA, ddp | LoRA, fsdp2 | full, fsdp2 |\n|---|---|---|---|")
    for processes in (1, 8, 16, 64):
        found = [
            pairs_a_second(shape, machine, processes, engine, full=full, rows=16, rows_a_forward=4)
            for engine, full in (("ddp", False), ("fsdp2", False), ("fsdp2", True))
        ]
        shown = [f"{one:.0f}" if one >= 10 else f"{one:.1f}" for one in found]
        print(f"| {processes} | {' | '.join(shown if processes > 1 else [shown[0], '', ''])} |")
    print("| trainers | rollout GPUs | seconds a GRPO step (256 prompts, 8 answers of 512 tokens) |\n|---|---|---|")
    longer = replace(shape, response=512)
    for trainers, servers in ((8, 0), (8, 24), (16, 48)):
        print(f"| {trainers} | {servers or 'the same'} | {online_step(longer, machine, trainers, servers):.1f} |")


if __name__ == "__main__":
    main()
