"""What a piece of work really took: peak memory of a GPU as torch counts it, or of this process on a CPU."""

import os
from pathlib import Path

import torch


class PeakMemory:
    """Highest memory above what was there when it was made.

    On a GPU: bytes that torch allocated, without its cache and the CUDA context. On a CPU: resident bytes of the
    process; Linux keeps the highest value itself, so that nothing is missed between samples.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device)
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.start = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf(
                "SC_PAGE_SIZE"
            )

    def above(self) -> int:
        """Bytes at the highest point so far, less those at the start."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device) - self.start
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        highest = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        return highest - self.start
