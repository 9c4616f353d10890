"""The two sides of ``maam_ops.compare``: a function or a Cell, run by one implementation after the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from maam_ops import _select
from maam_ops._rounding import EPSILON, as_double
from maam_ops.explain import operator_name

# A convolution and its normalisation, as the operators of whole branches take them.
_LAYER = ("weight", "gamma", "beta", "moving_mean", "moving_variance")
_STATISTICS = _LAYER[3:]


class FunctionSide:
    """A function of ``maam_ops.functional`` with its keywords bound."""

    def __init__(self, function: Callable[..., Any], keywords: dict[str, Any]) -> None:
        self.name = operator_name("compare", function)
        self._function, self._keywords = function, keywords

    def resolve(self, impl: str) -> str:
        return _select.choose(self.name, impl).impl

    def results(self, impl: str, inputs: Sequence[Any], grad: bool) -> list[tuple[str, Tensor]]:
        def call(*arguments: Any) -> Any:
            return self._function(*arguments, impl=impl, **self._keywords)

        return _outputs_and_gradients(call, inputs, {}, grad, _statistics(self._function, inputs))


class CellSide:
    """A Cell whose fused operators are switched to one implementation at a time."""

    def __init__(self, cell: nn.Cell) -> None:
        self.name = type(cell).__name__
        self._cell = cell
        # By the names of now: MindSpore may give others at the first call, and two the same name until then.
        self._parameters: dict[str, ms.Parameter] = {}
        for parameter in cell.get_parameters():
            taken = parameter.name in self._parameters
            self._parameters[f"{parameter.name} ({len(self._parameters)})" if taken else parameter.name] = parameter
        self._fused = [c for _, c in cell.cells_and_names() if isinstance(getattr(c, "choice", None), _select.Choice)]
        if not self._fused:
            raise ValueError(f"maam_ops.compare: {self.name} contains no fused operator; see maam_ops.fuse")

    def resolve(self, impl: str) -> str:
        """The name asked for; for "auto" what each Cell has chosen already."""
        if impl != _select.AUTO:
            return impl
        return " and ".join(sorted({cell.impl for cell in self._fused}))

    def results(self, impl: str, inputs: Sequence[Any], grad: bool) -> list[tuple[str, Tensor]]:
        trained = {name: parameter for name, parameter in self._parameters.items() if parameter.requires_grad}
        before = {name: parameter.value().copy() for name, parameter in self._parameters.items()}
        with self._switched(impl):
            try:
                rows = _outputs_and_gradients(self._cell, inputs, trained, grad)
                rows += [
                    (f"{name} after the call", parameter.value().copy())
                    for name, parameter in self._parameters.items()
                    if not np.array_equal(as_double(before[name]), as_double(parameter), equal_nan=True)
                ]
            finally:
                for name, parameter in self._parameters.items():
                    parameter.set_data(before[name])
        return rows

    @contextmanager
    def _switched(self, impl: str) -> Iterator[None]:
        kept = [(cell.impl, cell.automatic) for cell in self._fused]
        if impl != _select.AUTO:
            for cell in self._fused:
                cell.impl, cell.automatic = _select.choose(cell.choice.op, impl).impl, False
        try:
            yield
        finally:
            for cell, old in zip(self._fused, kept, strict=True):
                cell.impl, cell.automatic = old


def _outputs_and_gradients(
    call: Callable[..., Any],
    inputs: Sequence[Any],
    parameters: Mapping[str, ms.Parameter],
    grad: bool,
    without: Collection[int] = (),
) -> list[tuple[str, Tensor]]:
    flat, rebuild = _flatten(inputs)
    outputs = _as_tuple(call(*inputs))
    rows = [("output" if len(outputs) == 1 else f"output {i}", value) for i, value in enumerate(outputs)]
    wanted = [i for i, tensor in enumerate(flat) if tensor.dtype in EPSILON and i not in without]
    if not grad or not (wanted or parameters):
        return rows
    rng = np.random.default_rng(0)
    weights = [Tensor(rng.standard_normal(value.shape)).astype(value.dtype) for value in outputs[:1]]

    def loss(*tensors: Tensor) -> Tensor:
        first = _as_tuple(call(*rebuild(tensors)))[0]
        wide = ms.float64 if first.dtype == ms.float64 else ms.float32
        return ops.reduce_sum(first.astype(wide) * weights[0].astype(wide))

    gradient = ms.grad(loss, grad_position=tuple(wanted) or None, weights=list(parameters.values()) or None)(*flat)
    by_input, by_parameter = gradient if wanted and parameters else (gradient, ()) if wanted else ((), gradient)
    rows += [(f"gradient of input {i}", value) for i, value in zip(wanted, _as_tuple(by_input), strict=True)]
    rows += [(f"gradient of {name}", value) for name, value in zip(parameters, _as_tuple(by_parameter), strict=True)]
    return rows


def _flatten(inputs: Sequence[Any]) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], list[Any]]]:
    """The tensors of the arguments in order (lists and tuples opened), and how to put others in their places."""

    def open_all(item: Any) -> Iterator[Tensor]:
        if isinstance(item, (list, tuple)):
            for inner in item:
                yield from open_all(inner)
        else:
            yield item

    def put_back(item: Any, rest: Iterator[Tensor]) -> Any:
        return [put_back(inner, rest) for inner in item] if isinstance(item, (list, tuple)) else next(rest)

    def rebuild(tensors: Sequence[Tensor]) -> list[Any]:
        return put_back(inputs, iter(tensors))

    return list(open_all(inputs)), rebuild


def _statistics(function: Callable[..., Any], inputs: Sequence[Any]) -> set[int]:
    """Which of the flattened inputs are running statistics: buffers, which take no gradient."""
    found: set[int] = set()
    position = 0

    def number(name: str, value: Any) -> None:
        nonlocal position
        if not isinstance(value, (list, tuple)):
            if name in _STATISTICS:
                found.add(position)
            position += 1
            return
        for index, item in enumerate(value):
            number(_LAYER[index % len(_LAYER)] if _holds_layers(value) else "", item)

    for name, value in zip(inspect.signature(function).parameters, inputs, strict=False):
        number(name, value)
    return found


def _holds_layers(value: Sequence[Any]) -> bool:
    """Whether these are the operands of convolutions and their normalisations, and not branches."""
    return len(value) % len(_LAYER) == 0 and getattr(value[0], "ndim", 0) == 4 and getattr(value[1], "ndim", 0) == 1


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """Results in one row; some operators return their statistics as a tuple inside."""
    return tuple(inner for item in value for inner in _as_tuple(item)) if isinstance(value, (list, tuple)) else (value,)
