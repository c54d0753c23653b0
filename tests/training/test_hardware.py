"""What a machine does not have is refused or said in one paragraph; torch.cuda's answers are made up."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sightline.attention import choice
from sightline.attention.choice import choose
from sightline.config import ModelConfig
from sightline.errors import RecipeError
from sightline.models.load import dtype_of
from sightline.training.arguments import uses_bf16
from sightline.training.hardware import check_hardware
from tests.training.runs import recipe_of

Machine = Callable[..., None]
H100, A100, T4, V100 = ("H100", (9, 0)), ("A100", (8, 0)), ("Tesla T4", (7, 5)), ("Tesla V100", (7, 0))


class Chosen:
    """torch.cuda.device, without a device."""

    now = 0

    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> None:
        Chosen.now = self.index

    def __exit__(self, *_: Any) -> None:
        Chosen.now = 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    def have(*gpus: tuple[str, tuple[int, int]], flash: bool = True) -> None:
        answers: dict[str, Any] = {
            "is_available": lambda: True,
            "device_count": lambda: len(gpus),
            "current_device": lambda: 0,
            "device": Chosen,
            "get_device_name": lambda index: gpus[index][0],
            "get_device_capability": lambda index=0: gpus[index][1],
            "is_bf16_supported": lambda including_emulation=True: including_emulation or gpus[Chosen.now][1] >= (8, 0),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: flash)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(len(gpus)))
        choice.capability.cache_clear()

    yield have
    choice.capability.cache_clear()


def recipe(**changes: Any) -> Any:
    return recipe_of(Path("run"), Path("model"), **changes)


def test_a_gpu_with_everything_is_not_spoken_of(machine: Machine) -> None:
    machine(H100, H100)
    assert check_hardware(recipe()) == []
    assert dtype_of(ModelConfig(name="m"), torch.device("cuda")) == torch.bfloat16 and uses_bf16(recipe())


@pytest.mark.parametrize("gpu", [T4, V100])
def test_a_gpu_without_bfloat16_trains_in_float32_and_says_so(machine: Machine, gpu: Any) -> None:
    machine(gpu)
    (said,) = check_hardware(recipe())
    assert gpu[0] in said and "no bfloat16" in said and "float32" in said and "under 6e-8" in said
    assert dtype_of(ModelConfig(name="m"), torch.device("cuda")) == torch.float32 and not uses_bf16(recipe())
    (said,) = check_hardware(recipe(model={"name": "m", "dtype": "float16"}))
    assert "float16, as the recipe says" in said and "become zero" in said


@pytest.mark.parametrize("changes", [{"bf16": True}, {"model": {"name": "m", "dtype": "bfloat16"}}])
def test_bfloat16_is_refused_where_there_is_none(machine: Machine, changes: dict[str, Any]) -> None:
    machine(T4)
    with pytest.raises(RecipeError, match=r"Tesla T4, compute capability 7.5.*no bfloat16.*Leave it out"):
        check_hardware(recipe(**changes))


def test_gpus_of_two_kinds_are_named_and_refused_where_precisions_would_differ(machine: Machine) -> None:
    machine(H100, A100)
    (said,) = check_hardware(recipe())
    assert "cuda:0 H100, cuda:1 A100" in said and "slowest" in said and "smallest" in said
    machine(H100, T4)
    with pytest.raises(RecipeError, match=r"cuda:1 has no bfloat16.*CUDA_VISIBLE_DEVICES"):
        check_hardware(recipe())


def test_a_driver_too_old_for_torch_is_refused_and_a_machine_without_a_gpu_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(message: str) -> Callable[[], None]:
        def raising() -> None:
            raise RuntimeError(message)

        return raising

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init("The NVIDIA driver on your system is too old (found version 11040)."))
    with pytest.raises(RecipeError, match=r"driver of this machine is too old.*CUDA 13.0.*use_cpu: true"):
        check_hardware(recipe())
    assert check_hardware(recipe(use_cpu=True)) == []
    monkeypatch.setattr(torch.cuda, "init", init("Found no NVIDIA driver on your system."))
    assert check_hardware(recipe()) == []


def test_flex_attention_is_refused_on_a_cpu() -> None:
    with pytest.raises(RecipeError, match=r"flex_attention.*no backward pass on a CPU.*Leave it out"):
        check_hardware(recipe(use_cpu=True, model={"name": "m", "attn_implementation": "flex_attention"}))


@pytest.mark.parametrize(
    "gpu, flash, dtype, size, why",
    [
        (H100, True, torch.bfloat16, 128, "cuda, two variable-length FlashAttention calls a layer"),
        (H100, False, torch.bfloat16, 128, "dense mask, because this torch was built without FlashAttention"),
        (T4, True, torch.float16, 128, "FlashAttention needs compute capability 8.0 .Ampere., this GPU has 7.5"),
        (H100, True, torch.float32, 128, "takes bfloat16 and float16, not float32"),
        (H100, True, torch.bfloat16, 320, "heads of a multiple of 8 up to 256, not 320"),
        (("RTX 4090", (8, 9)), True, torch.bfloat16, 208, "no backward for heads of 208 on compute capability 8.9"),
    ],
)
def test_the_attention_of_a_gpu_and_why(
    machine: Machine, gpu: Any, flash: bool, dtype: torch.dtype, size: int, why: str
) -> None:
    machine(gpu, flash=flash)
    assert why.replace(".Ampere.", "(Ampere)") in str(choose(torch.device("cuda"), dtype, size))
