"""Models by the name of their shape, and their processors."""

import json
from pathlib import Path

import transformers
from transformers import AutoProcessor, ProcessorMixin
from transformers.utils import is_torchvision_available

from benchmarks.step.case import Case
from benchmarks.step.hybrid import HYBRID_TOY, QWEN_40M, hybrid
from benchmarks.step.qwen import QWEN_3B, QWEN_7B, QWEN_TOY, qwen
from benchmarks.step.random_model import Built
from benchmarks.step.smolvlm import SMOLVLM_36M, SMOLVLM_TOY, smolvlm
from sightline.models.processor import without_video

SMOLVLM = {"smolvlm-36m": SMOLVLM_36M, "smolvlm-toy": SMOLVLM_TOY}
QWEN = {"qwen2.5-vl-3b": QWEN_3B, "qwen2.5-vl-7b": QWEN_7B, "qwen2.5-vl-toy": QWEN_TOY}
HYBRIDS = {"qwen3.5-40m": QWEN_40M, "qwen3.5-toy": HYBRID_TOY}


def build(shape: str, grid: tuple[int, int], device: str = "cpu") -> Built:
    """Model and processor, the same weights every time; float32 on a CPU and bfloat16 elsewhere.

    grid: rows and columns of the tiles that SmolVLM's processor cuts an image of the data into.
    device: `meta` makes a model without weights, for the sake of the processor.
    """
    if shape in SMOLVLM:
        return smolvlm(SMOLVLM[shape], grid, device)
    return hybrid(HYBRIDS[shape], device) if shape in HYBRIDS else qwen(QWEN[shape], device)


def read_processor(folder: Path) -> ProcessorMixin:
    """A saved processor; Qwen's without its video part where torchvision is missing."""
    loaded: type[ProcessorMixin] = AutoProcessor
    if not is_torchvision_available():
        name = json.loads((folder / "processor_config.json").read_text())["processor_class"]
        kind = getattr(transformers, name)
        loaded = without_video(kind) if "video_processor" in kind.get_attributes() else kind
    return loaded.from_pretrained(folder)


def tiles_a_image(case: Case) -> int:
    """What one pass of an image counts in the tower: SmolVLM's tiles and the whole, Qwen's images."""
    if case.shape in QWEN or case.shape in HYBRIDS:
        return 1
    rows, columns = case.grid
    return rows * columns + (case.grid != (1, 1))
