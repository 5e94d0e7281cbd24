"""Random weights that are drawn later, each tensor by itself, with the values of a whole model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# What leaves nothing of a tensor's older values.
_OVERWRITES = ("aten::normal_", "aten::uniform_", "aten::zero_", "aten::fill_")

_ASKS = Tensor.is_meta.__get__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to a tensor, or to a view of it, in place."""

    function: Any
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int
    rest: tuple[Any, ...]
    options: Mapping[str, Any]
    state: Tensor | None  # of torch's generator, where something was drawn

    def repeat(self, tensor: Tensor) -> None:
        """Does it to a tensor that has memory."""
        if self.state is not None:
            torch.set_rng_state(self.state)
        view = tensor.as_strided(self.shape, self.stride, self.offset)
        self.function(view, *self.rest, **self.options)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A tensor that is drawn when it is asked for, the same each time.

    Args:
        shape: of the tensor.
        dtype: of its numbers.
        first: its values before the first step; None where that leaves nothing of them.
        steps: what makes its values.
    """

    shape: torch.Size
    dtype: torch.dtype
    first: Tensor | None
    steps: tuple[Step, ...] = ()

    @torch.no_grad()
    def read(self, rows: slice | None = None) -> Tensor:
        """Some rows of it, or all. torch's generator stays as it is."""
        if self.first is None:
            tensor = torch.empty(self.shape, dtype=self.dtype)
        else:
            tensor = self.first.detach().clone()
        with torch.random.fork_rng(devices=[]):
            for step in self.steps:
                step.repeat(tensor)
        return tensor if rows is None else tensor[rows].clone()

    def after(self, step: Step) -> "Drawn":
        """It, with another step."""
        if step.shape == self.shape and step.function._schema.name in _OVERWRITES:
            return replace(self, first=None, steps=(step,))
        return replace(self, steps=(*self.steps, step))


@contextmanager
def drawing_later() -> Iterator[None]:
    """Meanwhile new parameters come without memory: their `found` tells how to draw them.

    torch's generator goes on as if they had been drawn, one after the other. So what is drawn
    later has the very values of a model that was built in the usual way.

    Raises:
        RuntimeError: what is drawn depends on values that are not there yet.
    """
    notes = _Notes()
    hook = register_module_parameter_registration_hook(notes.without_memory)
    try:
        with notes, _Asked():
            yield
    finally:
        hook.remove()
    notes.tell()


@contextmanager
def changing(module: nn.Module) -> Iterator[None]:
    """Meanwhile what is done in place to parameters that are drawn later is done later too."""
    notes = _Notes()
    for parameter in module.parameters():
        found = getattr(parameter, "found", None)
        if _is_meta(parameter) and isinstance(found, Drawn):
            notes.add(parameter, found)
    with notes if notes.known else nullcontext():  # a plan's weights are never drawn
        yield
    notes.tell()


class _Notes(TorchDispatchMode):
    """Notes what is done to tensors that have no memory."""

    def __init__(self) -> None:
        super().__init__()
        # By storage, which views share; with the parameter, so that no other gets its address.
        self.known: dict[int, tuple[Any, Drawn]] = {}
        self.scratch = torch.empty(0)

    def add(self, parameter: Tensor, found: Drawn) -> None:
        """Follows a parameter."""
        self.known[_storage(parameter)] = parameter, found

    def tell(self) -> None:
        """Tells all parameters how to draw them."""
        for parameter, found in self.known.values():
            parameter.found = found

    def without_memory(self, _: nn.Module, __: str, parameter: Any) -> Any:
        """What a module gets in place of a new parameter."""
        if parameter is None or _is_meta(parameter):  # the latter: it is another's too
            return None
        empty = torch.empty_like(parameter, device="meta")
        new = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        # torch.empty takes no memory before it is written to.
        self.add(new, Drawn(parameter.shape, parameter.dtype, parameter.data))
        return new

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Does what it is asked for, and notes what it did."""
        options = kwargs or {}
        out = function(*args, **options)
        if not function._schema.is_mutable or not _is_meta(args[0]):
            return out
        tensor, *rest = args
        if _storage(tensor) not in self.known or any(map(_is_meta, rest)):
            raise RuntimeError(f"{function} depends on values that are not there yet")
        state = None
        if torch.Tag.nondeterministic_seeded in function.tags:
            state = torch.get_rng_state()
            function(self._memory(tensor), *rest, **options)  # so that the next one draws others
        parameter, found = self.known[_storage(tensor)]
        place = tensor.shape, tensor.stride(), tensor.storage_offset()
        step = Step(function, *place, tuple(rest), options, state)
        self.add(parameter, found.after(step))
        return out

    def _memory(self, tensor: Tensor) -> Tensor:
        """A place for as many numbers; one for all, for malloc would keep hold of many."""
        if self.scratch.dtype != tensor.dtype or self.scratch.numel() < tensor.numel():
            self.scratch = torch.empty(tensor.numel(), dtype=tensor.dtype)
        return self.scratch[: tensor.numel()].view(tensor.shape)


class _Asked(TorchFunctionMode):
    """Stops what asks whether there is memory: torch's `trunc_normal_` would do nothing then."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Does what it is asked for."""
        if function == _ASKS and _is_meta(args[0]):
            raise RuntimeError("a draw that does nothing without memory")
        return function(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "meta"
