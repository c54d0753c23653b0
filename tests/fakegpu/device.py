"""A CUDA device without one: tensors that say `cuda:0`, live in host memory, and count what a GPU would be asked.

Each operator runs on the host and is checked as CUDA would check it: tensors of two devices in one operator are
refused, whatever waits for the device (reading a number, shapes that depend on values, copies of pageable memory) is
counted with the line that asked, and so are kernels, bytes and FLOPs. torch must find the device when it is imported,
so this file is imported before torch, in a process of its own (`run.py`). Not here: speed, streams that overlap, NCCL,
quantized weights.
"""

import contextlib
import ctypes
import importlib.util
import subprocess
import sys
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

assert "torch" not in sys.modules, "torch looks for devices when it is imported: import this file first"
HERE = Path(__file__).parent


def build(library: Path) -> Path:
    """The shared library of `device.cpp` against the installed torch."""
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    torch_folder = Path(found.origin).parent
    include = [f"-I{torch_folder}/include", f"-I{torch_folder}/include/torch/csrc/api/include"]
    link = [f"-L{torch_folder}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch_folder}/lib"]
    source = str(HERE / "device.cpp")
    command = ["g++", "-O0", "-shared", "-fPIC", "-std=c++20", *include, source, "-o", str(library), *link]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


ctypes.CDLL(str(build(Path(sys.argv[1]))), ctypes.RTLD_GLOBAL)

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map  # noqa: E402
from torch.utils.flop_counter import flop_registry  # noqa: E402

from tests.fakegpu.flash import Flash  # noqa: E402

aten = torch.ops.aten
CUDA, HOST = torch.device("cuda", 0), torch.device("cpu")
TOTAL_MEMORY = 80 * 2**30

WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
    aten.bincount.default,
}
"""What gives a number, or a shape that depends on values."""
INDEXED = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
COPIES = {aten._to_copy.default, aten.copy_.default}
TAKES_BOTH = COPIES | INDEXED | {aten.set_.source_Tensor, aten.set_.source_Storage}
NO_KERNEL = {
    aten.detach.default,
    aten.alias.default,
    aten.lift_fresh.default,
    aten._unsafe_view.default,
    aten._reshape_alias.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten._local_scalar_dense.default,
}


class OtherDevice(RuntimeError):
    """Tensors of the host and of the device in one operator."""


class Gpu(Tensor):
    """A tensor on the device; `inner` holds its values on the host."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "Gpu":
        return torch.Tensor._make_wrapper_subclass(  # pyright: ignore
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=CUDA,
            requires_grad=requires_grad,
        )

    def __init__(self, inner: Tensor, requires_grad: bool = False) -> None:
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return device().run(operator, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"Gpu({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied: Any = Gpu(self.inner.detach().clone())
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if getattr(self, "_is_param", False) else copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        device().wait("pickled")
        return _on_device, (self.inner.detach(), self.requires_grad)

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        device().wait("tolist")
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    @property
    def data(self) -> Any:
        return torch.Tensor.data.__get__(self)  # pyright: ignore

    @data.setter
    def data(self, new: Any) -> None:
        torch.Tensor.data.__set__(self, new)  # pyright: ignore
        self.inner = new.inner


def _on_device(inner: Tensor, requires_grad: bool) -> Gpu:
    return Gpu(inner, requires_grad)


_now: list["Device"] = []


def device() -> "Device":
    """The device in force."""
    assert _now, "a tensor on the device, outside of it"
    return _now[-1]


class Device(TorchDispatchMode):
    """Within, there is a CUDA device.

    waits: (what, the line of sightline, the line of a library) → times. kernels: by operator. live, peak: bytes of
    tensors, in blocks of 512 as CUDA's allocator gives them. flops: of matrix products.
    exact: FlashAttention takes float32 as well, so that values can be compared with a CPU's.
    """

    def __init__(self, *, exact: bool = True) -> None:
        super().__init__()
        self.flash = Flash(exact=exact)
        self.waits: Counter[tuple[str, str, str]] = Counter()
        self.kernels: Counter[str] = Counter()
        self.flops = self.live = self.peak = self.largest = 0
        self.sizes: dict[int, int] = {}
        self.pinned: set[int] = set()
        self.special: dict[Any, Callable[..., Any]] = {
            aten._flash_attention_forward.default: self.flash.forward,
            aten._flash_attention_backward.default: self.flash.backward,
            # CUDA counts whole numbers, too
            aten.histc.default: lambda values, *bins, **named: aten.histc(values.float(), *bins, **named),
        }

    def __enter__(self) -> "Device":
        _now.append(self)
        self.stack = contextlib.ExitStack()
        for patch in patches(self):
            self.stack.enter_context(patch)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stack.close()
        _now.pop()

    def forget(self) -> None:
        """Count anew."""
        self.waits.clear()
        self.kernels.clear()
        self.flops, self.peak = 0, self.live

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(operator, args, kwargs or {})

    def run(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operator, on the host or on the device."""
        given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
        here = [one for one in given if isinstance(one, Gpu)]
        asked = kwargs.get("device")
        target = torch.device(asked) if asked is not None else None
        if not here and (target is None or target.type != "cuda"):
            return self._on_host(operator, args, kwargs)
        self._check(operator, [one for one in given if not isinstance(one, Gpu)] if here else [])
        self._count_waits(operator, args, kwargs)
        stays = True
        if operator is aten._to_copy.default:
            source = args[0]
            stays = target.type == "cuda" if target is not None else isinstance(source, Gpu)
            if stays != isinstance(source, Gpu):
                self._count_copy(source, kwargs.get("non_blocking", False))
            kwargs = {name: value for name, value in kwargs.items() if name not in ("device", "non_blocking")}
        elif target is not None:
            kwargs = {**kwargs, "device": HOST}
        kwargs.pop("pin_memory", None)
        inner_args, inner_kwargs = tree_map(lambda one: one.inner if isinstance(one, Gpu) else one, (args, kwargs))
        compute: Any = self.special.get(operator, operator)
        found = compute(*inner_args, **inner_kwargs)
        self._account(operator, inner_args, inner_kwargs, found)
        if operator._schema.is_mutable:
            return _same_objects(operator, args, kwargs, found, self.wrap)
        return found if not stays else tree_map(lambda one: self.wrap(one) if isinstance(one, Tensor) else one, found)

    def wrap(self, inner: Tensor) -> Gpu:
        """The tensor on the device, its memory accounted."""
        storage = inner.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = -(-storage.nbytes() // 512) * 512
            self.live += self.sizes[key]
            self.largest = max(self.largest, self.sizes[key])
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, key)
        return Gpu(inner)

    def _free(self, key: int) -> None:
        self.live -= self.sizes.pop(key, 0)

    def wait(self, what: str) -> None:
        """Count one wait of the host for the device."""
        self.waits[(what, *_lines())] += 1

    def _on_host(self, operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        pinned = kwargs.pop("pin_memory", None)
        found = operator(*args, **kwargs)
        if pinned:
            self.pinned.add(found.untyped_storage()._cdata)
        return found

    def _check(self, operator: Any, on_host: list[Tensor]) -> None:
        # kernels of two operands take a number that is a tensor of the host; others take none
        binary = any(one.name in ("other", "value") for one in operator._schema.arguments)
        wrong = [one for one in on_host if one.dim() > 0 or not (binary or "Scalar" in operator._overloadname)]
        if wrong and operator not in TAKES_BOTH:
            shapes = [tuple(one.shape) for one in wrong]
            raise OtherDevice(f"{operator}: tensors on cuda:0 and on the CPU {shapes}, at {_lines()}")

    def _count_waits(self, operator: Any, args: Any, kwargs: Any) -> None:
        if operator in WAITS:
            self.wait(operator._overloadpacket.__name__)
        if operator is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
            self.wait("repeat_interleave")
        if operator in INDEXED:
            for index in (one for one in args[1] if one is not None):
                one_value = operator is not aten.index.Tensor and getattr(args[2], "ndim", 1) == 0
                if index.dtype in (torch.bool, torch.uint8) and not (one_value and not isinstance(args[2], Gpu)):
                    self.wait("mask indexing")
                elif not isinstance(index, Gpu):
                    self.wait("index on the host")
        if operator is aten.copy_.default and isinstance(args[0], Gpu) != isinstance(args[1], Gpu):
            self._count_copy(args[1], args[2] if len(args) > 2 else kwargs.get("non_blocking", False))

    def _count_copy(self, source: Tensor, non_blocking: bool) -> None:
        if isinstance(source, Gpu):
            self.wait("copy to the host")
        elif not non_blocking or source.untyped_storage()._cdata not in self.pinned:
            self.wait("copy to the device")

    def _account(self, operator: Any, args: Any, kwargs: Any, found: Any) -> None:
        schema = operator._schema
        is_view = not schema.is_mutable and any(one.alias_info is not None for one in schema.arguments)
        if is_view or operator in NO_KERNEL:
            return
        self.kernels[str(operator)] += 1
        if operator._overloadpacket in flop_registry:
            self.flops += flop_registry[operator._overloadpacket](*args, **kwargs, out_val=found)


def _same_objects(operator: Any, args: Any, kwargs: Any, found: Any, wrap: Callable[[Tensor], Gpu]) -> Any:
    """What an operator in place returns: the very tensors that it was given to write into."""
    written = []
    for number, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[number] if number < len(args) else kwargs.get(argument.name))
    returns = operator._schema.returns
    if not returns:
        return None
    if len(returns) == len(written):
        return written[0] if len(written) == 1 else tuple(written)
    return tree_map(lambda one: wrap(one) if isinstance(one, Tensor) else one, found)


def _lines() -> tuple[str, str]:
    """The innermost line of sightline on the stack, and of a library inside it."""
    library = ""
    for frame in reversed(traceback.extract_stack(limit=120)):
        name = frame.filename
        if "/src/sightline/" in name:
            return f"{name.split('/src/sightline/')[1]}:{frame.lineno} {frame.name}", library
        if not library and any(f"/{one}/" in name for one in ("transformers", "peft", "accelerate", "torch/optim")):
            library = f"{name.split('site-packages/')[-1]}:{frame.lineno}"
    return "", library


# what Python asks of CUDA besides tensors


def _usual_item(inner: Any) -> Any:
    device().wait("item")
    return inner.inner.item()


_library: Any = torch.library.Library("aten", "IMPL")
_library.impl("_local_scalar_dense", _usual_item, "CUDA")  # for numbers that C++ reads by itself
_usual_apply = nn.Module._apply


def _apply(self: Any, function: Callable[[Any], Any], recurse: bool = True) -> Any:
    """`Module._apply` that moves weights in place of copying them: the same objects stay tied, as on CUDA."""
    owned = [one for one in (*self.parameters(), *self.buffers()) if one is not None]
    if not _now or not owned or not any(isinstance(one, Gpu) or _moves(function, one) for one in owned):
        return _usual_apply(self, function, recurse)
    for child in self.children():
        _apply(child, function)
    for kept in (self._parameters, self._buffers):
        for name, old in kept.items():
            if old is not None:
                kept[name] = _moved(old, function)
    return self


def _moves(function: Callable[[Any], Any], one: Tensor) -> bool:
    with torch.no_grad():
        return isinstance(function(one[:0] if one.dim() else one), Gpu)


def _moved(old: Any, function: Callable[[Any], Any]) -> Any:
    known = vars(old).get("_moved")
    if known is not None:
        return known
    with torch.no_grad():
        new = function(old)
    if new is old or (isinstance(old, Gpu) and isinstance(new, Gpu) and new.dtype == old.dtype):
        return old
    made = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    old._moved = made
    return made


class _Properties:
    name, total_memory, major, minor = "fake H200", TOTAL_MEMORY, 9, 0
    multi_processor_count = 132


def patches(now: Device) -> Iterator[contextlib.AbstractContextManager]:
    """What stands in for torch.cuda while the device is in force."""
    from unittest.mock import patch

    def pin(tensor: Tensor, *_: Any) -> Tensor:
        copied = tensor.clone()
        now.pinned.add(copied.untyped_storage()._cdata)
        return copied

    cuda: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "device_count": lambda: 1,
        "device": lambda *_: contextlib.nullcontext(),
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "get_device_name": lambda *_: _Properties.name,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: _Properties,
        "mem_get_info": lambda *_: (TOTAL_MEMORY - now.live, TOTAL_MEMORY),
        "memory_allocated": lambda *_: now.live,
        "memory_reserved": lambda *_: now.live,
        "max_memory_allocated": lambda *_: now.peak,
        "max_memory_reserved": lambda *_: now.peak,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "synchronize": lambda *_: now.wait("synchronize"),
        "manual_seed": lambda *_: None,
        "manual_seed_all": lambda *_: None,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "set_rng_state": lambda *_, **__: None,
        "set_rng_state_all": lambda *_: None,
    }
    for name, value in cuda.items():
        yield patch.object(torch.cuda, name, value)
    yield patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    yield patch.object(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    if now.flash.exact:
        yield patch("sightline.attention.choice.HALF", (torch.float32, torch.bfloat16, torch.float16))
    yield patch.object(torch.Tensor, "pin_memory", pin)
    yield patch.object(torch.Tensor, "is_pinned", lambda one, *_: one.untyped_storage()._cdata in now.pinned)
    yield patch.object(nn.Module, "_apply", _apply)
    yield _lifting_stays_on_the_host()


@contextlib.contextmanager
def _lifting_stays_on_the_host() -> Iterator[None]:
    torch._C._set_only_lift_cpu_tensors(True)  # pyright: ignore
    try:
        yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)  # pyright: ignore
