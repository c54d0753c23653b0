"""What a recipe asks of a device that the device does not have: refused, or said, before anything is loaded."""

import os

import torch

from sightline.attention.flex import NAME as FLEX
from sightline.config import Recipe
from sightline.errors import RecipeError

TOO_OLD = "driver on your system is too old"
"""What torch says of a driver that its CUDA needs a newer one of."""


def check_hardware(recipe: Recipe) -> list[str]:
    """Sentences for the person at the terminal about what this machine makes of the recipe.

    Raises `RecipeError` where an option means nothing on this device.
    """
    if not recipe.use_cpu:
        _refuse_old_driver()
    if recipe.use_cpu or not torch.cuda.is_available():
        _refuse_flex_on_cpu(recipe)
        return []
    index = int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count()
    return [*_about_precision(recipe, index), *_about_other_gpus(index)]


def has_bfloat16(index: int | None = None) -> bool:
    """Whether a CUDA device computes in bfloat16 itself; torch emulates it elsewhere, many times slower."""
    with torch.cuda.device(index if index is not None else torch.cuda.current_device()):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def _refuse_old_driver() -> None:
    if torch.version.cuda is None or torch.cuda.is_available():
        return
    try:
        torch.cuda.init()
    except RuntimeError as error:
        if TOO_OLD not in str(error):
            return  # no GPU here, or no driver: a CPU trains
        raise RecipeError(
            f"The NVIDIA driver of this machine is too old for this torch ({torch.__version__}, CUDA "
            f"{torch.version.cuda}): torch cannot use the GPU. Update the driver, install a torch for an older CUDA "
            "(https://pytorch.org), or train on the CPU with `use_cpu: true`."
        ) from error


def _refuse_flex_on_cpu(recipe: Recipe) -> None:
    if recipe.model.attn_implementation == FLEX:
        raise RecipeError(
            f"`model.attn_implementation` is {FLEX!r}, whose kernel has no backward pass on a CPU, and this run trains "
            "on one. Leave it out for `auto`, or train on a GPU."
        )


def _about_precision(recipe: Recipe, index: int) -> list[str]:
    name, (major, minor) = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if has_bfloat16(index):
        return []
    which = f"This GPU ({name}, compute capability {major}.{minor}) has no bfloat16"
    asked = {"`bf16: true`": recipe.bf16 is True, "`model.dtype: bfloat16`": recipe.model.dtype == "bfloat16"}
    for option in (option for option, is_asked in asked.items() if is_asked):
        raise RecipeError(
            f"{which}, which {option} asks for; torch would emulate it, many times slower. Leave it out for float32, "
            "or set `model.dtype: float16`, which halves the frozen weights."
        )
    if recipe.model.dtype == "float16":
        return [
            f"{which}: frozen weights are float16, as the recipe says, and trained ones float32. In float16 numbers "
            "under 6e-8 become zero and those above 65,504 infinite: where the loss is not finite or `grad_norm` is 0, "
            "set `model.dtype: float32`."
        ]
    return [
        f"{which}: weights and products are float32, twice the memory. `model.dtype: float16` halves the frozen "
        "weights; numbers under 6e-8 then become zero. Attention of shared prefixes takes a dense mask here."
    ]


def _about_other_gpus(index: int) -> list[str]:
    """Of the GPUs that the processes of this machine use."""
    used = range(min(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()))
    names = {i: torch.cuda.get_device_name(i) for i in used}
    if len(set(names.values())) < 2:
        return []
    listed = ", ".join(f"cuda:{i} {name}" for i, name in names.items())
    has = {i: has_bfloat16(i) for i in used}
    if len(set(has.values())) > 1:
        without = ", ".join(f"cuda:{i}" for i in used if not has[i])
        raise RecipeError(
            f"The GPUs of this run are of different kinds ({listed}), and {without} has no bfloat16: the processes "
            "would compute in different precisions. Choose GPUs of one kind with `CUDA_VISIBLE_DEVICES`."
        )
    return [
        f"The GPUs of this run are of different kinds ({listed}): every step takes as long as the slowest, and has "
        "room for what fits the smallest. Numbers of their kernels differ in the last digits."
    ]
