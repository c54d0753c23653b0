"""Make the environment of `make test-vllm` usable: a torchvision built for CUDA beside a CPU torch cannot be imported.

Run by the environment's own Python. It declares the two operators that torchvision misses at the head of torchvision
itself, because vLLM starts processes of its own that import it before anything of ours.
"""

from importlib.util import find_spec
from pathlib import Path

DECLARED = """import torch as _torch

_missing = _torch.library.Library("torchvision", "FRAGMENT")
_missing.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_missing.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""


def main() -> None:
    """Fix torchvision where it is broken; leave a working one alone."""
    try:
        import torchvision  # noqa: F401 # pyright: ignore[reportMissingImports]
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        spec = find_spec("torchvision")
        assert spec is not None and spec.origin is not None
        path = Path(spec.origin)
        path.write_text(DECLARED + path.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    main()
