"""Families, objectives and ways to train on a device that only says it is one: nothing is on the wrong device, no
operator is asked that CUDA refuses, the host hardly waits, and the numbers are a CPU's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LORA: dict[str, Any] = {"lora": {"r": 4}, "objective": {"type": "dpo"}}
FULL = {**LORA, "lora": None, "learning_rate": 1e-4}
SAMPLER = {"type": "transformers", "num_generations": 4, "max_completion_length": 5}
SAMPLING = 54
"""Waits of five tokens drawn by the policy itself, about eight each, and of reading the prompts."""
TILES = 4
"""Waits of the tower of Idefics3 and SmolVLM, whose own code looks for tiles that are padding."""
PADDED = 4
"""Waits of transformers' masks, which look for rows without padding, in policy and reference."""
CROSS = 15
"""Waits of Mllama's masks of cross-attention, which are made on the device, in policy and reference."""
DEEPSTACK = 14
"""Waits of Qwen3-VL's language model, which adds features to its layers at the places of a mask."""
ROLES = 16
"""Waits of a loss that sorts a whole step's responses by their role, in policy and reference."""

CASES: dict[str, dict[str, Any]] = {
    "llava": {"recipe": {**LORA, "eval_steps": 1, "data": {"val_size": 1}}, "resumes": True},
    "llava full": {"recipe": FULL, "resumes": True},
    "llava padded": {"recipe": {**LORA, "layout": "padded"}, "waits": PADDED},
    "llava selective": {"recipe": {**LORA, "gradient_checkpointing": "selective"}},
    "llava precomputed": {"recipe": {**LORA, "reference": {"type": "precomputed"}}},
    "llava mdpo": {"recipe": {**LORA, "objective": {"type": "mdpo"}}, "waits": ROLES},
    "llava aot": {"recipe": {**LORA, "objective": {"type": "aot"}}},
    "qwen2_5_vl": {"recipe": {**LORA, "gradient_checkpointing": True}},
    "qwen2_5_vl full": {"recipe": FULL},
    "qwen2_5_vl bfloat16": {"recipe": LORA, "bf16": True},
    "qwen3_vl_moe": {"recipe": FULL, "waits": DEEPSTACK},
    "qwen3_5 sft": {"recipe": {**FULL, "objective": {"type": "sft"}}},
    "gemma3": {"recipe": LORA},
    "paligemma": {"recipe": LORA},
    "mllama": {"recipe": LORA, "waits": CROSS},
    "internvl": {"recipe": LORA},
    "idefics3 kto": {"recipe": {**LORA, "objective": {"type": "kto"}}, "waits": TILES + ROLES + 3},
    "llava grpo": {"recipe": {**LORA, "objective": {"type": "grpo"}, "sampler": SAMPLER}, "waits": SAMPLING},
    "smolvlm full bfloat16": {"recipe": FULL, "bf16": True, "waits": TILES},
}
"""Name, of which the first word is the model → what is run. waits: beyond the two that any step may have."""
BENCHMARKS = ("dpo", "grpo")
SERVED = [name for name, case in CASES.items() if case["recipe"].get("layout") != "padded"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if shutil.which("g++") is None:
        pytest.skip("the device is 60 lines of C++, and there is no g++")
    folder = tmp_path_factory.mktemp("fakegpu")
    cases = [{"resumes": False, **case, "name": name, "model": name.split()[0]} for name, case in CASES.items()]
    cases += [{"name": f"benchmark {setting}", "benchmark": setting} for setting in BENCHMARKS]
    (folder / "cases.json").write_text(json.dumps(cases))
    places = [str(folder / "device.so"), str(folder / "cases.json"), str(folder / "out.json")]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fakegpu.run", *places],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads((folder / "out.json").read_text())


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_two_steps_wait_twice_each_at_most_and_have_the_numbers_of_a_cpu(found: dict[str, Any], name: str) -> None:
    case, ran = CASES[name], found[name]
    assert "error" not in ran, ran["error"]
    assert len(ran["steps"]) == 2
    for step in ran["steps"]:
        assert step["waits"] <= 2 + case.get("waits", 0), step["who"]
    if not case.get("bf16", False):
        same(ran["curve"], ran["cpu"])
    if case.get("resumes", False):
        same(ran["resumed"], ran["curve"][-1:])


@pytest.mark.parametrize("name", SERVED)
def test_attention_is_the_variable_length_kernel(found: dict[str, Any], name: str) -> None:
    assert found[name]["flash"] > 0


@pytest.mark.parametrize("setting", BENCHMARKS)
def test_the_benchmark_of_one_gpu_runs_as_it_will_there(found: dict[str, Any], setting: str) -> None:
    ran = found[f"benchmark {setting}"]
    assert "error" not in ran, ran["error"]
    assert ran["device"] == "fake H200" and len(ran["losses"]) == 3 and ran["memory"] > 0 and ran["flops"] > 0
    assert ran["errors"]["chosen"].startswith("cuda")
    assert ran["errors"]["cuda"]["error"] <= 2 * ran["errors"]["dense"]["error"]
    assert ran["errors"]["cuda"]["gradient_error"] <= 3 * ran["errors"]["dense"]["gradient_error"]
