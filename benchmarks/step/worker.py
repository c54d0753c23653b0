"""One run in a process of its own: `python -m benchmarks.step.worker CASE_JSON MODEL DATA.parquet RESULT.json`."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from torch import Tensor, nn

from benchmarks.step.case import Case, Measured, read_case
from benchmarks.step.meter import FlopsOfLastStep, Memory, Meter, timed_loading
from benchmarks.step.shapes import build, read_processor, tiles_a_image


def run(case: Case, folder: Path, data: Path) -> Measured:
    """Load, train, measure."""
    torch.set_num_threads(case.threads)
    transformers.logging.set_verbosity_error()
    program: Any
    if case.program == "sightline":
        from benchmarks.step import sightline_program as program
    else:
        from benchmarks.step import trl_program as program
    program.prepare(case)
    if case.in_memory:
        model, processor = build(case.shape, case.grid, case.device).model.requires_grad_(False), read_processor(folder)
        if case.program == "sightline":
            program.take_attention(case, model)
    else:
        model, processor = program.load(case, folder)
    touch(model)
    load = os.getloadavg()[0]
    meter = Meter(model, Memory(case.device))
    flops, adapter = FlopsOfLastStep(), Adapter()
    with timed_loading(meter):
        trained = program.train(case, model, processor, data, [adapter, meter, *([flops] if case.count_flops else [])])
    return Measured(
        wall=meter.column(0),
        cpu=meter.column(1),
        waited=meter.column(2),
        tiles=meter.column(3),
        language_tokens=meter.column(4),
        losses=[row["loss"] for row in meter.rows],
        gradient_norms=[row["grad_norm"] for row in meter.rows],
        memory=meter.highest,
        model_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        tiles_a_image=tiles_a_image(case),
        prompt_tokens=case.prompt_tokens,
        flops=flops.counted,
        start=projected(adapter.before),
        way=projected(lora_weights(trained.model) - adapter.before),
        load=load,
        device=torch.cuda.get_device_name() if case.device == "cuda" else "cpu",
    )


def touch(model: nn.Module) -> None:
    """Read every weight once: files that are mapped into memory are not in it before."""
    for parameter in model.parameters():
        parameter.sum()


class Adapter(transformers.TrainerCallback):
    """The adapter as it is before the first step."""

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self.before = lora_weights(model)


def lora_weights(model: Any) -> Tensor:
    """All of an adapter's weights in one row, in the order of their names."""
    assert isinstance(model, PeftModel)
    named = sorted((name, p) for name, p in model.named_parameters() if "lora_" in name)
    return torch.cat([p.detach().flatten().double().cpu() for _, p in named])


def projected(row: Tensor) -> list[float]:
    """What it is along 32 random directions of signs, the same ones every time: how far two rows are apart shows in how
    far these are (Johnson and Lindenstrauss), and they fit into a record."""
    generator = torch.Generator().manual_seed(0)
    signs = (torch.randint(0, 2, row.shape, generator=generator, dtype=torch.int8) for _ in range(32))
    return [float(row @ (2.0 * sign.double() - 1)) for sign in signs]


if __name__ == "__main__":
    case_text, model_path, data_path, result_path = sys.argv[1:]
    Path(result_path).write_text(run(read_case(case_text), Path(model_path), Path(data_path)).to_json())
