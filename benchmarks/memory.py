"""Predicted against measured peak memory of a training step, for LLaVA, Idefics3 and Qwen2-VL shapes at three sizes.

    python -m benchmarks.memory                     on the CPU: float32, one thread, under 2 GB
    python -m benchmarks.memory --device cuda       on the first GPU: bfloat16 under autocast, larger models

Each case is a process of its own: random weights, `training.step.step` with DPO, two micro-batches of two rows. After a
step that warms up, the peak of the next is read above what lives between steps. Predicted is what `sightline plan`
predicts for activations and gradients. Exit code 1 where one is off by more than 20% (10% on CUDA).
"""

import argparse
import ctypes
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Literal

FAMILIES = ("llava", "idefics3", "qwen2_vl")
ALLOWED = {"cpu": 0.2, "cuda": 0.1}
Mode = Literal["lora", "selective", "checkpointing", "full", "full-checkpointing"]
MODES: tuple[Mode, ...] = ("lora", "selective", "checkpointing", "full")

LANGUAGE = {
    "cpu": ((256, 4, 704, 8000), (384, 6, 1024, 16000), (512, 8, 1408, 32000)),
    "cuda": ((1024, 12, 2816, 32000), (2048, 16, 5632, 64000), (4096, 16, 11008, 128000)),
}
"""Three sizes of language model: hidden, layers, inner, vocabulary. Towers are half as wide."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model and one way to train it."""

    family: str
    size: int
    mode: Mode
    device: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Bytes."""

    predicted: int
    measured: int

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured


def config_of(case: Case) -> Any:
    """The config of a model of the family at the case's size."""
    from transformers import AutoConfig

    hidden, layers, inner, words = LANGUAGE[case.device][case.size]
    text = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "vocab_size": words,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": max(2, hidden // 128),
        "pad_token_id": 0,
    }
    tower = {
        "hidden_size": hidden // 2,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 4,
        "num_attention_heads": hidden // 128,
        "image_size": 224,
        "patch_size": 14,
    }
    match case.family:
        case "llava":
            towers = {"vision_config": {"model_type": "clip_vision_model", **tower}}
            return AutoConfig.for_model(
                "llava", image_token_index=7, text_config={"model_type": "llama", **text}, **towers
            )
        case "idefics3":
            kinds = {"text_config": {"model_type": "llama", **text}, "vision_config": tower}
            return AutoConfig.for_model(
                "idefics3", image_token_id=7, scale_factor=2, tie_word_embeddings=False, **kinds
            )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]}
    patches = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    tower = {"depth": 4, "embed_dim": hidden // 2, "hidden_size": hidden, "num_heads": hidden // 128, **patches}
    ids = {"image_token_id": 7, "video_token_id": 8, "vision_start_token_id": 9, "vision_end_token_id": 10}
    text |= {"model_type": "qwen2_vl_text", "rope_parameters": rope, "use_sliding_window": False}
    return AutoConfig.for_model("qwen2_vl", text_config=text, vision_config=tower, tie_word_embeddings=False, **ids)


def recipe_of(case: Case) -> Any:
    """The recipe: two rows a micro-batch."""
    from sightline.config import LoraConfig, ModelConfig, Recipe

    options = {"longest_edge": 448} if case.family == "idefics3" else {}
    return Recipe(
        model=ModelConfig(name="benchmark", processor=options),
        lora=None if case.mode.startswith("full") else LoraConfig(),
        gradient_checkpointing="selective" if case.mode == "selective" else case.mode.endswith("checkpointing"),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        use_cpu=case.device == "cpu",
        optim="adamw_torch_fused",
    )


def sizes() -> Any:
    """Rows with a small image and short answers, so that the CPU is done soon."""
    from sightline.memory.sample import AnyImage, Sizes

    return Sizes(image=AnyImage(448, 336), text_tokens=64, response_tokens=128)


def predicted(case: Case, recipe: Any, gpus: int = 1) -> int:
    """What the plan says of activations, and of the gradients, which do not live between steps."""
    from sightline.memory.estimator import Estimator

    estimate = Estimator(config_of(case), sizes()).estimate(recipe, gpus=gpus)
    return estimate.of("activations") + estimate.of("gradients")


def measured(case: Case, recipe: Any, shard: Callable[[Any], None] = lambda policy: None, **world: Any) -> int:
    """The peak of the second of two steps, above what lives between them.

    shard: over processes, in place. world: what `StepSettings` is told of them.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from benchmarks.step.meter import Memory
    from sightline.forward.reference import build_reference
    from sightline.memory.estimator import autocast_dtype
    from sightline.memory.sample import made_up_group
    from sightline.memory.skeleton import frozen_dtype
    from sightline.models.families.find import family_of
    from sightline.models.load import unfreeze
    from sightline.models.lora import add_lora
    from sightline.models.recompute import recompute
    from sightline.objectives.objective import build
    from sightline.training.step.metrics import Means
    from sightline.training.step.micro_batch import StepSettings
    from sightline.training.step.step import train_step

    device, dtype = torch.device(case.device), autocast_dtype(recipe)
    model = AutoModelForImageTextToText.from_config(config_of(case), dtype=frozen_dtype(recipe)).requires_grad_(False)
    policy: Any = unfreeze(model, recipe.model) if recipe.lora is None else add_lora(model, recipe.lora)
    policy.to(device).train()
    recompute(policy, recipe.gradient_checkpointing)
    objective, family = build(recipe.objective), family_of(policy)
    # a frozen copy, too, is gone before the policy's graph is built: it adds weights, nothing to the peak above them
    reference = build_reference(policy, recipe.reference, has_lora=recipe.lora is not None, needed=True)
    group = made_up_group(family, sizes(), recipe.model.processor)
    groups = [replace(group, id=str(i)) for i in range(4)]
    shard(policy)
    settings = StepSettings(
        family=family,
        layout="prefix",
        groups_per_forward=2,
        device=device,
        autocast=lambda: torch.autocast(case.device, dtype, enabled=dtype is not None, cache_enabled=False),
        dummy_group=(lambda: group) if world else None,
        **world,
    )
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], fused=True)
    highest = 0
    for rows in (groups[:1], groups):
        optimizer.zero_grad()
        peak = Memory(case.device)
        train_step(
            policy, rows, objective, reference, settings, state={}, backward=lambda e: e.backward(), means=Means()
        )
        optimizer.step()
        highest = peak.above()
    return highest


def compare(case: Case) -> Outcome:
    """Measurement and prediction, in a process of its own that starts with everything imported and nothing run."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_report, args=(case, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"{case} failed: see above.") from None
    finally:
        process.join()


def freed_at_once() -> None:
    """Memory that is freed goes back to the system at once, so that the process's size is what lives."""
    libc = ctypes.CDLL(None)
    assert libc.mallopt(M_MMAP_THRESHOLD, 2**16) and libc.mallopt(M_TRIM_THRESHOLD, 2**16)


def _report(case: Case, sender: Connection) -> None:
    if case.device == "cpu":
        freed_at_once()
    peak = measured(case, recipe_of(case))
    sender.send(Outcome(predicted=predicted(case, recipe_of(case)), measured=peak))


def main() -> int:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments.add_argument("--size", type=int, choices=[0, 1, 2], help="one size alone")
    arguments.add_argument("--family", choices=FAMILIES, help="one family alone")
    arguments.add_argument("--mode", choices=MODES, help="one way to train alone")
    given = arguments.parse_args()
    import torch

    import sightline.memory.estimator
    import sightline.training.step.step  # noqa: F401 # forked processes need not import again

    torch.set_num_threads(1)
    print(f"{'family':<10}{'size':>5}  {'mode':<14}{'predicted':>12}{'measured':>12}{'ratio':>8}")
    ratios = []
    for size in range(3) if given.size is None else [given.size]:
        for family in [given.family] if given.family else FAMILIES:
            for mode in [given.mode] if given.mode else MODES:
                found = compare(Case(family=family, size=size, mode=mode, device=given.device))
                ratios.append(found.ratio)
                bytes_ = f"{found.predicted / 1e6:>9,.1f} MB{found.measured / 1e6:>9,.1f} MB"
                print(f"{family:<10}{size:>5}  {mode:<14}{bytes_}{found.ratio:>8.3f}", flush=True)
    worst = max(abs(ratio - 1) for ratio in ratios)
    print(f"at worst {100 * worst:.1f}% off; allowed {100 * ALLOWED[given.device]:.0f}%")
    return 0 if worst <= ALLOWED[given.device] else 1


if __name__ == "__main__":
    sys.exit(main())
