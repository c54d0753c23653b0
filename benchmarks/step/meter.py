"""Measures a trainer from outside, the same way for every program: step times, waiting, tower passes, memory, FLOPs."""

import contextlib
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import dataloader
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, TrainerCallback

aten = torch.ops.aten


class Meter(TrainerCallback):
    """Counts what passes through tower and language model, and reads the clocks at the end of every step."""

    def __init__(self, model: PreTrainedModel, memory: "Memory") -> None:
        self.on_cuda = model.device.type == "cuda"
        self.memory = memory
        self.highest = self.tiles = self.tokens = 0
        self.waited = 0.0
        self.readings: list[tuple[float, float, float, int, int]] = []
        self.rows: list[dict[str, float]] = []
        model.get_encoder("image").register_forward_pre_hook(self._count_tiles, with_kwargs=True)
        model.get_decoder().register_forward_pre_hook(self._count_tokens, with_kwargs=True)

    def _count_tiles(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grid = kwargs.get("grid_thw")  # Qwen's tower takes patches of all images in one row, and their grids
        self.tiles += len(grid if grid is not None else kwargs["pixel_values"] if "pixel_values" in kwargs else args[0])

    def _count_tokens(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        embedded = kwargs.get("inputs_embeds")
        self.tokens += embedded.shape[:2].numel() if embedded is not None else kwargs["input_ids"].numel()

    def _read(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize()
        self.readings.append((time.perf_counter(), time.process_time(), self.waited, self.tiles, self.tokens))

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._read()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._read()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.highest = self.memory.above()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.rows.append(dict(logs))

    def column(self, index: int) -> list[Any]:
        """Differences between readings: of wall, cpu, waiting, tiles, tokens."""
        values = [reading[index] for reading in self.readings]
        return [after - before for before, after in pairwise(values)]


@contextlib.contextmanager
def timed_loading(meter: Meter) -> Iterator[None]:
    """Within, the time that the main process spends asking data loaders for their next batch is added up."""
    iterator = dataloader._BaseDataLoaderIter
    original = iterator.__next__

    def timed(self: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(self)
        finally:
            meter.waited += time.perf_counter() - started

    iterator.__next__ = timed
    try:
        yield
    finally:
        iterator.__next__ = original


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Memory:
    """Highest memory above what was there when it was made: of the process on a CPU, allocated by torch on a GPU.

    The kernel keeps the highest resident size itself, so that no sample is missed; making this resets it.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")
            self.start = resident()

    def above(self) -> int:
        """Bytes at the highest point, less those at the start."""
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() - self.start
        status = Path("/proc/self/status").read_text().splitlines()
        highest = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        return highest - self.start


class FlopsOfLastStep(TrainerCallback):
    """Counts the floating-point operations of the last step's matrix products, convolutions and attention."""

    def __init__(self) -> None:
        self.counted: dict[str, float] = {}
        self.mode: FlopCounterMode | None = None

    def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step == state.max_steps - 1:
            self.mode = FlopCounterMode(display=False, custom_mapping=ON_CPU)
            self.mode.__enter__()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
            total = self.mode.get_flop_counts()["Global"]
            self.counted = {str(operation): float(count) for operation, count in total.items()}
            self.mode = None


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """QKᵀ and PV over every query and key: what torch's CPU kernel computes under a dense mask."""
    batch, heads, queries, size = query
    return 4 * batch * heads * queries * key[2] * size


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Five products of the same size: QKᵀ again, dV, dP, dQ, dK."""
    return _attention(query, key, value) * 5 // 2


ON_CPU = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
"""The counter knows CUDA's attention kernels alone."""
