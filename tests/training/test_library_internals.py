"""What Sightline uses of its libraries without their promise: an upgrade that changes it fails here first, by name.

`PRIVATE` is the whole list of private names (a leading underscore) that `src/sightline` reads of transformers, peft,
accelerate, datasets and torch, with the reason for each. `CALLED` and `OVERRIDDEN` are public, but their signatures are
part of how the training loop works; `INSIDE` are attributes that only a look into the source can find.
"""

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

SOURCE = Path(__file__).parents[2] / "src" / "sightline"
PRIVATE: dict[str, tuple[str, str]] = {
    # torch.distributed
    "_get_default_store": ("torch.distributed.distributed_c10d", "where a process that fails leaves its reason"),
    "_get_fsdp_state": ("torch.distributed.fsdp.FSDPModule", "all weights in every process while rows are evaluated"),
    "_lazy_init": ("torch.distributed.fsdp._fully_shard._fsdp_state.FSDPState", "names the root before any forward"),
    "_fsdp_param_group": ("torch.distributed.fsdp._fully_shard._fsdp_state.FSDPState", "the weights, torch < 2.13"),
    # torch
    "_orig_mod": ("torch._dynamo.eval_frame.OptimizedModule", "the model inside torch.compile"),
    "_dynamo": ("torch", "its class, to recognize a compiled model"),
    "_subclasses": ("torch", "tensors without data, by which `plan` counts memory"),
    "_python_dispatch": ("torch.utils", "every operator of a step, counted by `plan`"),
    "_pytree": ("torch.utils", "the tensors among an operator's arguments"),
    "_cdata": ("torch.UntypedStorage", "which tensors share their bytes"),
    "_parameters": ("torch.nn.Module", "weights replaced by ones without data, in place"),
    "_buffers": ("torch.nn.Module", "buffers replaced by ones without data, in place"),
    "_to_copy": ("torch.ops.aten", "a cast, which `plan` counts"),
    "_scaled_dot_product_flash_attention": ("torch.ops.aten", "kept while a layer is recomputed"),
    "_scaled_dot_product_efficient_attention": ("torch.ops.aten", "kept while a layer is recomputed"),
    "_scaled_dot_product_cudnn_attention": ("torch.ops.aten", "kept while a layer is recomputed"),
    "_flash_attention_forward": ("torch.ops.aten", "attention of a shared prefix on CUDA, with its log-sum-exp"),
    "_flash_attention_backward": ("torch.ops.aten", "attention of a shared prefix on CUDA"),
    "_supports_attention_backend": ("transformers.PreTrainedModel", "whether a type's attention can be replaced"),
    "_supports_flex_attn": ("transformers.PreTrainedModel", "whether transformers gives a type FlexAttention"),
    "_scaled_dot_product_flash_attention_for_cpu": ("torch.ops.aten", "kept, and attention of a shared prefix"),
    "_scaled_dot_product_flash_attention_for_cpu_backward": ("torch.ops.aten", "attention of a shared prefix"),
    # transformers, peft, datasets
    "_disable_adapters": ("peft.tuners.tuners_utils.BaseTunerLayer", "the weights below an adapter, quickly"),
    "_attn_implementation_internal": ("transformers.PretrainedConfig", "a tower's attention of our own"),
    "_attn_implementation": ("transformers.PretrainedConfig", "which attention kernel a layer calls"),
    "_supports_sdpa": ("transformers.PreTrainedModel", "which attention a type can be compared with"),
    "_get_arguments_from_pretrained": ("transformers.ProcessorMixin", "a processor without its video part"),
    "_fingerprint": ("datasets.Dataset", "which rows a data set holds, to name cached tokens"),
}
"""Name → (what has it, why it is used)."""

OF_PYTHON = {"_asdict", "_fields", "_replace", "_exit", "_current_frames", "_actions", "_option_string_actions"}
"""Names with an underscore that Python documents, and argparse's lists of its flags."""

CALLED: dict[str, tuple[tuple, dict[str, Any]]] = {
    "transformers.Trainer.create_optimizer": ((0,), {}),
    "transformers.Trainer.create_scheduler": ((0,), {"num_training_steps": 1}),
    "transformers.Trainer.log": ((0, {}, None), {}),
    "transformers.TrainerState.compute_steps": ((0, 0, 1), {}),
    "transformers.TrainerState": ((), {"global_step": 1, "log_history": []}),
    "transformers.TrainerState.save_to_json": ((0, "path"), {}),
    "transformers.trainer_utils.align_special_tokens": ((0, 0), {}),
    "transformers.trainer_utils.speed_metrics": (("train", 0.0), {"num_samples": 1, "num_steps": 1}),
    "transformers.trainer_callback.CallbackHandler.on_train_begin": ((0, 0, 0, 0), {}),
    "transformers.trainer_callback.CallbackHandler.on_step_begin": ((0, 0, 0, 0), {}),
    "transformers.trainer_callback.CallbackHandler.on_step_end": ((0, 0, 0, 0), {}),
    "transformers.trainer_callback.CallbackHandler.on_evaluate": ((0, 0, 0, 0, {}), {}),
    "transformers.trainer_callback.CallbackHandler.on_save": ((0, 0, 0, 0), {}),
    "transformers.integrations.deepspeed.HfTrainerDeepSpeedConfig": (({},), {}),
    "transformers.integrations.deepspeed.unset_hf_deepspeed_config": ((), {}),
    "accelerate.utils.fsdp_utils.fsdp2_prepare_model": ((0, 0), {}),
    "accelerate.Accelerator.clip_grad_norm_": ((0, [], 1.0), {}),
    "accelerate.Accelerator.no_sync": ((0, 0), {}),
}
"""Public functions → a call of the shape that Sightline makes (a method's first argument is its object)."""

OVERRIDDEN = {
    "train": ("resume_from_checkpoint",),
    "training_step": ("model", "inputs", "num_items_in_batch"),
    "evaluate": ("eval_dataset", "ignore_keys", "metric_key_prefix"),
    "log": ("logs", "start_time"),
    "save_model": ("output_dir", "_internal_call"),
    "get_train_dataloader": (),
}
"""Public methods of transformers' Trainer that Sightline's replace → the parameters that both have."""

INSIDE = {
    "deepspeed.runtime.zero.parameter_offload.DeepSpeedZeRoOffload": (
        "self.fwd_pre_hook = ", "self.forward_hooks = ", "self.backward_hooks = ",
    ),
    "deepspeed.runtime.zero.stage3.DeepSpeedZeroOptimizer_Stage3": (
        "self.fp32_partitioned_groups_flat = ", "self.parameter_offload = ",
    ),
    "deepspeed.runtime.zero.stage_1_and_2.DeepSpeedZeroOptimizer": ("self.single_partition_of_fp32_groups = ",),
    "deepspeed.runtime.zero.partition_parameters.Init": ("param.ds_id = ", "param.ds_status = ", "param.ds_numel = "),
    "deepspeed.ops": ("__compatible_ops__",),
}  # fmt: skip
"""Where DeepSpeed keeps what is saved of its optimizer, and what gives weights back after each layer."""


def found(path: str) -> Any:
    """The module, class or function at a dotted path."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            thing = getattr(thing, name)
        return thing
    raise ModuleNotFoundError(path)


def private_names(tree: ast.Module) -> set[str]:
    """Names with one leading underscore that a module reads of objects, or imports from outside."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("sightline"):
            names |= {*node.module.split("."), *(alias.name for alias in node.names)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def own_names(tree: ast.Module) -> set[str]:
    """Names that a module gives to functions, classes, variables and attributes."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return names


def test_every_private_name_that_is_used_is_on_the_list():
    trees = [ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))]
    own = set().union(*map(own_names, trees)) - PRIVATE.keys()
    used = set().union(*map(private_names, trees)) - own - OF_PYTHON
    assert not used - PRIVATE.keys(), "new private names of libraries: avoid them, or list them with the reason"
    assert not PRIVATE.keys() - used, "no longer used: take them off the list"


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_exists(name):
    owner, why = PRIVATE[name]
    thing = found(owner)
    assert why
    if inspect.isclass(thing) and not hasattr(thing, name):
        assert f"self.{name}" in inspect.getsource(thing) or name in getattr(thing, "__annotations__", {})
    else:
        getattr(thing, name)


@pytest.mark.parametrize("path", CALLED)
def test_a_public_function_takes_the_arguments_it_is_given(path):
    args, options = CALLED[path]
    inspect.signature(found(path)).bind(*args, **options)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_an_overridden_method_has_the_parameters_of_the_original(name):
    trainer, ours = found("transformers.Trainer"), found("sightline.training.trainer.AlignmentTrainer")
    for owner in (trainer, ours):
        parameters = inspect.signature(getattr(owner, name)).parameters
        assert {"self", *OVERRIDDEN[name]} <= parameters.keys(), owner


def test_no_private_method_of_the_library_is_overridden():
    trainer, ours = found("transformers.Trainer"), found("sightline.training.online.trainer.OnlineTrainer")
    assert ours.__mro__.index(trainer) == 3
    mine = {name for owner in ours.__mro__[:3] for name in vars(owner)}
    shared = {name for name in mine & vars(trainer).keys() if not name.startswith("__")}
    assert shared == OVERRIDDEN.keys()


@pytest.mark.parametrize("path", INSIDE)
def test_deepspeed_keeps_its_state_where_it_is_looked_for(path, monkeypatch):
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    pytest.importorskip("deepspeed")
    source = inspect.getsource(found(path))
    assert all(words in source for words in INSIDE[path])


def test_fsdp2_gathers_and_shards_its_groups_of_weights(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model: Any = nn.Linear(2, 2)
        fully_shard(model)
        assert isinstance(model, FSDPModule)
        state: Any = model._get_fsdp_state()
        state._lazy_init()
        groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
        for group in groups:
            assert hasattr(group, "post_forward_mesh_info")
            group.lazy_init()
            group.unshard()
            group.wait_for_unshard()
            group.reshard()
    finally:
        dist.destroy_process_group()
