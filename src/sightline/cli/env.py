"""`sightline env`: versions and devices, for bug reports."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sightline.cli.arguments import Arguments

PACKAGES = (
    "sightline", "torch", "torchvision", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors",
    "pillow", "numpy", "bitsandbytes", "vllm", "deepspeed", "trl", "gradio",
)  # fmt: skip


def run(argv: list[str]) -> int:
    """Print a table, or JSON with `--json`."""
    arguments = Arguments("env", "Versions and devices, for bug reports. Names no user, no path and no secret.")
    arguments.add_argument("--json", action="store_true", help="print JSON and nothing else")
    given = arguments.parse(argv)
    facts = environment()
    if given.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:<14} {value}")
    return 0


def environment() -> dict[str, Any]:
    """Versions of what matters, devices and memory; nothing that names a user, a path or a secret."""
    import torch

    facts: dict[str, Any] = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    facts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts["threads"] = torch.get_num_threads()
    facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        facts[f"cuda:{index}"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
    facts["cuda"] = torch.version.cuda or "none"
    return facts
