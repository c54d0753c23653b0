"""Gradients over two processes are those of one: the forward that trains goes through the wrapper, head included."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sightline.config import LoraConfig, ModelConfig
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.models.lora import add_lora
from tests.groups import make_group

WORLD = 2


def gradients(folder: str, seeds: list[int], wrap: bool) -> dict[str, Tensor]:
    """Gradients of the mean log-prob of each of these groups, averaged over them (and over processes, by DDP)."""
    config = ModelConfig(name=folder)
    torch.manual_seed(0)
    policy = add_lora(load_model(config), LoraConfig(r=2))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    model = nn.parallel.DistributedDataParallel(policy) if wrap else policy
    processor = load_processor(config)
    groups = [family_of(policy).place(make_group(processor, seed=seed)) for seed in seeds]
    found = log_probs(model, prefix.lay_out(groups), groups=groups, features=encode(model, groups))
    (found.mean().sum() / len(groups)).backward()
    return {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}


def process(rank: int, folder: str, out: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{out}/store", WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=timedelta(minutes=2))
    assert dist.get_world_size() == WORLD
    torch.save(gradients(folder, [rank], wrap=True), f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = str(tiny_model("llava"))
    torch.multiprocessing.spawn(process, args=(folder, str(tmp_path)), nprocs=WORLD)  # raises what a process raised
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD))
    expected = gradients(folder, [0, 1], wrap=False)
    assert first.keys() == second.keys() == expected.keys() and expected
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
