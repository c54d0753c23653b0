"""A torchvision that does not fit torch is importable all the same; one that fails otherwise is not touched."""

import os
import subprocess
import sys
from pathlib import Path

BROKEN = "import torch\ntorch.library.register_fake('torchvision::nms')(lambda *_: None)\nworks = True\n"


def run(folder: Path, source: str) -> subprocess.CompletedProcess:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    program = "from sightline import torchvision_ops as ops; import torchvision; print(torchvision.works, ops.LIBRARY)"
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)


def test_missing_operators_are_declared(tmp_path: Path) -> None:
    found = run(tmp_path, BROKEN)
    assert found.stdout.startswith("True Library(kind=FRAGMENT"), found.stderr


def test_another_defect_is_not_hidden(tmp_path: Path) -> None:
    found = run(tmp_path, "raise RuntimeError('no disk')\n")
    assert found.returncode == 1 and "no disk" in found.stderr
