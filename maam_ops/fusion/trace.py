"""One recorded forward pass: which Cell was called by which, with which tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mindspore import Tensor, nn


@dataclass(eq=False)
class Call:
    """One call of a Cell. It keeps its tensors alive, so that identity tells them apart."""

    cell: nn.Cell
    caller: nn.Cell | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None


@dataclass
class Trace:
    """All calls of one forward pass, in the order in which they began."""

    calls: list[Call] = field(default_factory=list)

    def of(self, cell: nn.Cell) -> list[Call]:
        return [call for call in self.calls if call.cell is cell]

    def readers(self, tensor: Any) -> list[Call]:
        """Calls of Cells without child Cells that got this very tensor."""
        return [
            call
            for call in self.calls
            if not call.cell._cells and any(given is tensor for given in tensors((call.args, call.kwargs)))
        ]


def tensors(value: Any) -> Iterator[Tensor]:
    """The Tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def record(net: nn.Cell, inputs: tuple[Any, ...]) -> Trace:
    """Runs the net once, in PYNATIVE mode set by the caller, and records the calls of its Cells.

    A Cell inside a function compiled by ``ms.jit`` is not seen.
    """
    trace = Trace()
    stack: list[Call] = []

    def enter(cell: nn.Cell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(cell, stack[-1].cell if stack else None, args, kwargs)
        stack.append(call)
        trace.calls.append(call)

    def leave(_cell: nn.Cell, _args: tuple[Any, ...], output: Any) -> None:
        stack.pop().output = output

    handles = []
    try:
        for _, cell in net.cells_and_names():
            handles.append(cell.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(cell.register_forward_hook(leave))
        for tensor in tensors(net(*inputs)):
            tensor.asnumpy()
    finally:
        for handle in handles:
            handle.remove()
    return trace
