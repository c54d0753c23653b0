"""A torchvision whose compiled part does not fit torch (a CUDA build beside a CPU torch) still resizes images.

Importing it fails with `operator torchvision::nms does not exist`, and transformers' image processors with it. Only
operators that it describes to torch on import are missing; nothing here calls them, so that declaring them is enough.
"""

import importlib
import sys
from importlib.util import find_spec

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare_missing_operators() -> torch.library.Library | None:
    """Make `import torchvision` work where only its operators are missing.

    Returns what declares them, which must be kept alive; None where torchvision is absent or works by itself.
    """
    if find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
        return None
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in OPERATORS:
        library.define(operator)
    importlib.import_module("torchvision")
    return library


LIBRARY = declare_missing_operators()
