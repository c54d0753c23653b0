"""One run in a process of its own: `python -m benchmarks.step.worker CASE_JSON MODEL DATA.parquet RESULT.json`."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from torch import nn

from benchmarks.step.case import Case, Measured, read_case
from benchmarks.step.meter import FlopsOfLastStep, Memory, Meter, timed_loading
from benchmarks.step.shapes import build, read_processor, tiles_a_picture


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
        if case.program == "sightline" and case.attention != "auto":
            model.get_decoder().set_attn_implementation(case.attention)
    else:
        model, processor = program.load(case, folder)
    touch(model)
    load = os.getloadavg()[0]
    meter = Meter(model, Memory(case.device))
    flops, weights = FlopsOfLastStep(), LoraWeights()
    with timed_loading(meter):
        trained = program.train(case, model, processor, data, [weights, meter, *([flops] if case.count_flops else [])])
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
        tiles_a_picture=tiles_a_picture(case),
        prompt_tokens=case.prompt_tokens,
        flops=flops.counted,
        weights=(weights.before, lora_weight(trained.model)),
        load=load,
        device=torch.cuda.get_device_name() if case.device == "cuda" else "cpu",
    )


def touch(model: nn.Module) -> None:
    """Read every weight once: files that are mapped into memory are not in it before."""
    for parameter in model.parameters():
        parameter.sum()


class LoraWeights(transformers.TrainerCallback):
    """The adapter as it is before the first step."""

    before = 0.0

    def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self.before = lora_weight(model)


def lora_weight(model: Any) -> float:
    """Sum of |w| over the adapter."""
    assert isinstance(model, PeftModel)
    return float(sum(p.detach().double().abs().sum() for name, p in model.named_parameters() if "lora_" in name))


if __name__ == "__main__":
    case_text, model_path, data_path, result_path = sys.argv[1:]
    Path(result_path).write_text(run(read_case(case_text), Path(model_path), Path(data_path)).to_json())
