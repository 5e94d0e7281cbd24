"""A GPU where there is none: the numbers are on the CPU, in tensors that say they are on a GPU.

What a GPU refuses is refused: tensors of both devices in one operation. What makes the program wait
for a GPU is noted: its numbers that are read, and copies from memory that is not pinned.
"""

import sys
from contextlib import ExitStack
from unittest.mock import patch

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten
READS = {  # their results, or the sizes of their results, are numbers on the device
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}


class WrongDeviceError(AssertionError):
    """Tensors of the GPU and of the CPU meet."""


class OnGPU(Tensor):
    """A tensor that says it is on the GPU; `held` has its numbers."""

    @staticmethod
    def __new__(cls, held):
        return Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CPU,  # autograd would ask a real GPU for its streams
        )

    def __init__(self, held):
        self.held = held

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self):
        return f"OnGPU({self.held})"

    def __format__(self, wanted):
        return format(self.item(), wanted)

    def __tensor_flatten__(self):
        return ["held"], None

    @classmethod
    def __tensor_unflatten__(cls, inner, *_):
        return cls(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        _check(func, args, kwargs)
        if func is aten.copy_.default:
            _note(f"copy from {args[1].device}", args[0].device != args[1].device)
            held_of(args[0]).copy_(held_of(args[1]))
            return args[0]
        if kwargs.get("device") is not None:
            kwargs["device"] = CPU
        out = func(*tree_map(held_of, args), **tree_map(held_of, kwargs))
        made = tree_map(lambda one: OnGPU(one) if isinstance(one, Tensor) else one, out)
        return return_and_correct_aliasing(func, args, kwargs, made)


class PretendGPU(TorchFunctionMode):
    """Meanwhile `cuda` is a GPU; `waits` says what waited for it, and where in the program."""

    current = None

    def __init__(self):
        super().__init__()
        self.waits, self.depth = [], 0

    def __enter__(self):
        self.stack = ExitStack()
        self.stack.enter_context(_Factories(self))
        grouped = clip_grad._group_tensors_by_device_and_dtype
        for target, name, new in (
            (torch.cuda, "reset_peak_memory_stats", lambda device: None),
            (torch.cuda, "max_memory_allocated", lambda device: 2**30),
            (torch.cuda, "get_device_name", lambda device: "NVIDIA H200"),
            # It looks at tensors from C++, which sees where their numbers are.
            (
                clip_grad,
                "_group_tensors_by_device_and_dtype",
                lambda tensors: {(GPU, kind): of for (_, kind), of in grouped(tensors).items()},
            ),
            (PretendGPU, "current", self),
        ):
            self.stack.enter_context(patch.object(target, name, new))
        swapping = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        self.stack.callback(torch.__future__.set_swap_module_params_on_conversion, swapping)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.stack.close()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if func is Tensor.backward:
            return self._backward(*args, **kwargs)
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return self._move(func, first, args[1:], kwargs)
        if func is Tensor.pin_memory:
            return first
        if isinstance(first, OnGPU):
            if name == "__set__" and func.__self__ is Tensor.data:
                first.held = args[1].held
                return None
            if func is Tensor.tolist:
                _note("tolist")
                return first.held.tolist()
            if func is Tensor.numpy:
                raise WrongDeviceError("a tensor of the GPU as an array")
            if func is Tensor.new_tensor:
                _note("new_tensor")
                return OnGPU(torch.tensor(*args[1:], **{"dtype": first.dtype, **kwargs}))
        if _is_gpu(kwargs.get("device")):
            _note(name, name in ("tensor", "as_tensor", "asarray"))
            return OnGPU(func(*args, **kwargs | {"device": "cpu"}).detach())
        return self._inside(func, args, kwargs)

    def _inside(self, func, args, kwargs):
        is_there = any(isinstance(one, OnGPU) for one in tree_flatten((args, kwargs))[0])
        self.depth += is_there
        try:
            return func(*args, **kwargs)
        finally:
            self.depth -= is_there

    def _backward(self, tensor, gradient=None, *args, **kwargs):
        self.depth += 1
        TorchFunctionMode.__enter__(self)  # blocks that compute again are programs of their own
        try:
            return torch.autograd.backward(tensor, gradient, *args, **kwargs)
        finally:
            TorchFunctionMode.__exit__(self, None, None, None)
            self.depth -= 1

    def _move(self, func, tensor, args, kwargs):
        device = {Tensor.cuda: GPU, Tensor.cpu: CPU}.get(func, kwargs.pop("device", None))
        for one in args:
            if isinstance(one, Tensor):
                device, kwargs["dtype"] = one.device, one.dtype
            elif isinstance(one, torch.dtype):
                kwargs["dtype"] = one
            elif isinstance(one, bool):
                kwargs.setdefault("non_blocking", one)
            elif one is not None:
                device = one
        must_wait = not kwargs.pop("non_blocking", False)
        if device is not None and _is_gpu(device) != isinstance(tensor, OnGPU):
            _note(f"to {device}", must_wait or not _is_gpu(device))
            tensor = (_ToGPU if _is_gpu(device) else _ToCPU).apply(tensor)
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        return self._inside(Tensor.to, (tensor,), kwargs) if kwargs else tensor


class PretendStrategy(SingleDeviceStrategy):
    """Lets a Trainer train on the GPU that is none."""

    def __init__(self):
        accelerator = CPUAccelerator()
        accelerator.setup_device = lambda device: None
        super().__init__(device=GPU, accelerator=accelerator)


class _Factories(TorchDispatchMode):
    """Puts on the GPU what C++ makes for itself as it works on tensors there."""

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = tree_flatten((args, kwargs))[0]
        is_new = isinstance(out, Tensor) and not any(isinstance(one, Tensor) for one in given)
        return OnGPU(out) if is_new and self.gpu.depth and not isinstance(out, OnGPU) else out


class _ToGPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return OnGPU(tensor.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return gradient.held


class _ToCPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.held.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return OnGPU(gradient)


def held_of(one):
    return one.held if isinstance(one, OnGPU) else one


def _check(func, args, kwargs):
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
    elsewhere = [tuple(one.shape) for one in tensors if not isinstance(one, OnGPU)]
    if func in INDEXING:
        places = [one for one in args[1] if one is not None]
        _note("a mask as an index", any(one.dtype == torch.bool for one in places))
        _note("an index on the CPU", any(not isinstance(one, OnGPU) for one in places))
        elsewhere = [] if isinstance(args[0], OnGPU) else [tuple(args[0].shape)]
    elif func is not aten.cat.default:
        elsewhere = [shape for shape in elsewhere if shape]  # a scalar may come from the CPU
    if elsewhere and func is not aten.copy_.default:
        raise WrongDeviceError(f"{func} of tensors on the GPU and on the CPU, there {elsewhere}")
    _note(str(func), func in READS)


def _note(what, waits=True):
    if not waits or PretendGPU.current is None:
        return
    frame = sys._getframe(1)
    while frame and not any(
        f"/{one}/" in frame.f_code.co_filename for one in ("locvlm", "pytorch")
    ):
        frame = frame.f_back
    name = frame.f_code.co_filename.rpartition("/")[2] if frame else ""
    PretendGPU.current.waits.append((what, name))


def _is_gpu(device):
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"
