"""What the plan counts as gathered is what accelerate has FSDP2 gather; its bytes are those worked by hand."""

import pytest
import torch.distributed as dist
from benchmarks.memory_fsdp2 import shard
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForImageTextToText

from sightline.config import LoraConfig, ModelConfig, Recipe
from sightline.memory.shapes import find_config
from sightline.memory.sharded import sharded_lines, stored
from sightline.memory.skeleton import build_skeleton, decoder_layers, frozen_dtype
from sightline.models.load import read_config, unfreeze
from sightline.models.lora import add_lora

LAYER = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096  # q and o, k and v, three of the MLP, two norms
ADAPTER = 41_943_040 // 32


@pytest.mark.parametrize(
    ("lora", "gathered", "gradient", "norm"),
    [
        # float32, and a gradient of every weight: 2 × 0.87 GB gathered, as much of gradients
        (None, 2 * 4 * LAYER, 2 * 4 * LAYER, 4 * 4096),
        (LoraConfig(), 2 * (2 * LAYER + 4 * ADAPTER), 2 * 4 * ADAPTER, 2 * 4096),
    ],
    ids=["full", "lora"],
)
def test_layers_of_idefics2_by_hand(lora, gathered, gradient, norm):
    recipe = Recipe(model=ModelConfig(name="HuggingFaceM4/idefics2-8b"), lora=lora)
    found = {line.part: line.bytes for line in sharded_lines(build_skeleton(find_config(recipe.model), recipe))}
    expected = {"two layers, gathered": gathered, "of a layer, and sent": gradient, "rest, gathered": norm}
    assert found == expected | ({} if lora else {"of the rest": norm})


@pytest.fixture
def world_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("family", "model", "lora"),
    [
        ("llava", {"freeze_vision": False, "freeze_projector": False}, None),
        ("llava", {}, LoraConfig(target_modules="all-linear")),
        ("mllama", {}, LoraConfig()),
        ("gemma3", {}, None),
    ],
    ids=["a tower that trains", "adapters in the tower", "layers of two kinds", "a head that embeds"],
)
def test_what_is_counted_as_gathered_is_gathered_together(tiny_model, world_of_one, family, model, lora):
    recipe = Recipe(model=ModelConfig(name=str(tiny_model(family)), **model), lora=lora, use_cpu=True)
    config = read_config(recipe.model)
    lines = {line.part: line.bytes for line in sharded_lines(build_skeleton(config, recipe))}

    bare = AutoModelForImageTextToText.from_config(config, dtype=frozen_dtype(recipe)).requires_grad_(False)
    policy = unfreeze(bare, recipe.model) if lora is None else add_lora(bare, lora)
    kind = type(decoder_layers(policy)[0])
    tied = bare.get_output_embeddings().weight is bare.get_input_embeddings().weight
    assert tied == (family == "gemma3")
    shard(policy)
    policy._get_fsdp_state()._lazy_init()  # as the first forward would
    sharded_modules = [module for module in policy.modules() if isinstance(module, FSDPModule)]
    groups = {id(group): group for module in sharded_modules for group in module._get_fsdp_state()._fsdp_param_groups}

    def size(group):
        return stored(one.sharded_param for one in group.fsdp_params)

    head = stored([bare.get_output_embeddings().weight])
    staying = sum(size(group) for group in groups.values() if group.post_forward_mesh_info is None)
    assert lines["rest, gathered"] == staying - (0 if tied else head)
    layer = max(size(group) for group in groups.values() if isinstance(group.modules[0], kind))
    both = lines.get("two layers, gathered")
    assert both == 2 * layer if both is not None else lines["head and a layer"] == layer + head
