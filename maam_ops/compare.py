"""Kernel beside reference, on the user's own inputs: ``maam_ops.compare`` and ``python -m maam_ops.compare``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from maam_ops import (
    _compare_int8,
    _select,
    adam,
    agent_block,
    aggregate,
    aggregate_reduce,
    conv_block,
    cross_entropy,
    dense,
    maam,
    maam_deep,
    maam_mix,
    reduce,
)
from maam_ops.explain import kernels_run

# Largest error allowed, relative to the largest magnitude of the tensor: both sides round, in different orders. None in
# whole numbers.
TOLERANCE = {ms.float64: 1e-12, ms.float32: 1e-5, ms.float16: 2e-3, ms.bfloat16: 1.6e-2}
_NO_DOUBLE = (
    dense.OP,
    maam.OP,
    maam_deep.OP,
    maam_mix.OP,
    agent_block.OP,
    conv_block.OP,
    *_compare_int8.OPERATORS,
)
_STEPS = 3  # of the optimizer
_EPSILON = {ms.float64: 2.0**-52, ms.float32: 2.0**-23, ms.float16: 2.0**-10, ms.bfloat16: 2.0**-7}


@dataclass(frozen=True)
class Difference:
    """One tensor of both sides.

    Attributes:
        name: "output", "gradient of input 0", "gradient of alpha", "moving_mean after the call" ...
        max_abs: largest absolute error.
        max_relative: the same over the largest magnitude in the reference's tensor.
        max_ulp: largest error in units of the last place of the reference's element, or of a tenth of the largest
            element where that is more.
        passed: shape and dtype agree, NaN and infinities stand in the same places, and max_relative is allowed.
        problem: what was wrong other than the size of the error, or "".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float
    max_relative: float
    max_ulp: float
    passed: bool
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """The comparison of an implementation with the reference; ``bool(report)`` tells whether everything passed."""

    subject: str
    impl: str
    kernels: dict[str, int]
    differences: list[Difference]

    @property
    def passed(self) -> bool:
        return all(difference.passed for difference in self.differences)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        ran = ", ".join(f"{name} x{calls}" for name, calls in self.kernels.items()) or "no native kernel"
        width = max(len(difference.name) for difference in self.differences)
        lines = [f"{self.subject}: {self.impl} against reference (ran: {ran})"]
        lines.append(f"  {'':<{width}}  {'dtype':<8}  {'max abs':>9}  {'relative':>9}  {'ulp':>8}")
        for d in self.differences:
            verdict = "ok" if d.passed else f"FAIL {d.problem}".rstrip()
            errors = f"{d.max_abs:9.2e}  {d.max_relative:9.2e}  {d.max_ulp:8.1f}"
            lines.append(f"  {d.name:<{width}}  {d.dtype:<8}  {errors}  {verdict}")
        lines.append("  passed" if self.passed else "  FAILED")
        return "\n".join(lines)


def compare(
    op_or_cell: Callable[..., Any] | nn.Cell,
    *inputs: Any,
    grad: bool = True,
    impl: str = "auto",
    rtol: float | None = None,
    **keywords: Any,
) -> Report:
    """Run a fused operator or a net that contains some, and its reference, on the same inputs.

    A net runs in PYNATIVE mode with all its fused Cells switched to ``impl``, then to the reference; its parameters and
    running statistics are put back afterwards.

    Args:
        op_or_cell: a function of ``maam_ops.functional`` or any Cell.
        inputs: what to call it with.
        grad: also compare the gradients of every floating-point input and trainable parameter, for a fixed random
            incoming gradient.
        impl: the side to be checked, "auto" being what would run.
        rtol: error allowed relative to the largest magnitude of each tensor, instead of the dtype's :data:`TOLERANCE`.
        keywords: passed on to a function, for instance ``training=True``.

    Returns:
        Report: one row for each output, gradient and changed parameter.
    """
    side = _CellSide(op_or_cell) if isinstance(op_or_cell, nn.Cell) else _FunctionSide(op_or_cell, keywords)
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        chosen = side.resolve(impl)
        kernels: dict[str, int] = {}
        got: list[tuple[str, Tensor]] = []

        def run() -> list[Tensor]:
            got.extend(side.results(impl, inputs, grad))
            return [value for _, value in got]

        kernels = kernels_run(run)
        expected = side.results(_select.REFERENCE, inputs, grad)
    finally:
        ms.set_context(mode=mode)
    differences = [
        difference(name, value, truth, rtol) for (name, value), (_, truth) in zip(got, expected, strict=True)
    ]
    return Report(side.name, chosen, kernels, differences)


def difference(name: str, got: Tensor, expected: Tensor, rtol: float | None = None) -> Difference:
    """Measure one tensor against its reference; wrong shape, dtype or places of NaN and infinity fail."""
    dtype, shape = expected.dtype, tuple(expected.shape)
    text = str(dtype).lower()
    if tuple(got.shape) != shape or got.dtype != dtype:
        problem = f"got {got.dtype}{tuple(got.shape)}, expected {dtype}{shape}"
        return Difference(name, text, shape, np.inf, np.inf, np.inf, False, problem)
    left, right = _as_double(got), _as_double(expected)
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True) or not np.isfinite(left[finite]).all():
        return Difference(name, text, shape, np.inf, np.inf, np.inf, False, "NaN or infinity in other places")
    error = np.abs(left[finite] - right[finite])
    magnitude = np.abs(right[finite])
    if error.size == 0:
        return Difference(name, text, shape, 0.0, 0.0, 0.0, True)
    largest = float(magnitude.max())
    # Where a sum cancels, the last place of the result says nothing about its terms: elements below a tenth of the
    # largest are measured in the last place of that.
    place = np.exp2(np.floor(np.log2(np.maximum(magnitude, largest * 0.1 + 1e-300)))) * _EPSILON.get(dtype, 1.0)
    relative = float(error.max()) / largest if largest > 0 else (np.inf if error.max() > 0 else 0.0)
    allowed = TOLERANCE.get(dtype, 0.0) if rtol is None else rtol
    return Difference(
        name, text, shape, float(error.max()), relative, float((error / place).max()), bool(relative <= allowed)
    )


def _as_double(tensor: Tensor) -> np.ndarray:
    narrow = tensor.dtype in (ms.bfloat16, ms.float16)
    return (tensor.float() if narrow else tensor).asnumpy().astype(np.float64)


class _FunctionSide:
    """A function of ``maam_ops.functional`` with its keywords bound."""

    def __init__(self, function: Callable[..., Any], keywords: dict[str, Any]) -> None:
        self.name = function.__name__
        if self.name not in _select.operators():
            known = ", ".join(_select.operators())
            raise ValueError(f"maam_ops.compare: got {self.name!r}, expected a Cell or one of {known}")
        self._function, self._keywords = function, keywords

    def resolve(self, impl: str) -> str:
        return _select.choose(self.name, impl).impl

    def results(self, impl: str, inputs: Sequence[Any], grad: bool) -> list[tuple[str, Tensor]]:
        def call(*arguments: Any) -> Any:
            return self._function(*arguments, impl=impl, **self._keywords)

        return _outputs_and_gradients(call, inputs, [], grad)


class _CellSide:
    """A Cell whose fused operators are switched to one implementation at a time."""

    def __init__(self, cell: nn.Cell) -> None:
        self.name = type(cell).__name__
        self._cell = cell
        self._fused = [c for _, c in cell.cells_and_names() if isinstance(getattr(c, "choice", None), _select.Choice)]
        if not self._fused:
            raise ValueError(f"maam_ops.compare: {self.name} contains no fused operator; see maam_ops.fuse")

    def resolve(self, impl: str) -> str:
        """The name asked for; for "auto" what each Cell has chosen already."""
        if impl != _select.AUTO:
            return impl
        return " and ".join(sorted({cell.impl for cell in self._fused}))

    def results(self, impl: str, inputs: Sequence[Any], grad: bool) -> list[tuple[str, Tensor]]:
        parameters = list(self._cell.get_parameters())
        before = {parameter.name: parameter.asnumpy().copy() for parameter in parameters}
        with self._switched(impl):
            rows = _outputs_and_gradients(self._cell, inputs, self._cell.trainable_params(), grad)
        for parameter in parameters:
            old = Tensor(before[parameter.name])
            if not np.array_equal(before[parameter.name], parameter.asnumpy(), equal_nan=True):
                rows.append((f"{parameter.name} after the call", Tensor(parameter.asnumpy())))
                parameter.set_data(old)
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
    call: Callable[..., Any], inputs: Sequence[Any], parameters: Sequence[ms.Parameter], grad: bool
) -> list[tuple[str, Tensor]]:
    flat, rebuild = _flatten(inputs)
    outputs = _as_tuple(call(*inputs))
    rows = [("output" if len(outputs) == 1 else f"output {i}", value) for i, value in enumerate(outputs)]
    wanted = [i for i, tensor in enumerate(flat) if tensor.dtype in TOLERANCE]
    if not grad or not (wanted or parameters):
        return rows
    rng = np.random.default_rng(0)
    weights = [Tensor(rng.standard_normal(value.shape)).astype(value.dtype) for value in outputs[:1]]

    def loss(*tensors: Tensor) -> Tensor:
        first = _as_tuple(call(*rebuild(tensors)))[0]
        wide = ms.float64 if first.dtype == ms.float64 else ms.float32
        return ops.reduce_sum(first.astype(wide) * weights[0].astype(wide))

    gradient = ms.grad(loss, grad_position=tuple(wanted) or None, weights=list(parameters) or None)(*flat)
    by_input, by_parameter = gradient if wanted and parameters else (gradient, ()) if wanted else ((), gradient)
    rows += [(f"gradient of input {i}", value) for i, value in zip(wanted, _as_tuple(by_input), strict=True)]
    rows += [
        (f"gradient of {parameter.name}", value)
        for parameter, value in zip(parameters, _as_tuple(by_parameter), strict=True)
    ]
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


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _case(op: str, shape: tuple[int, ...], branches: int, channels: int, dtype: ms.Type) -> Report:
    if op in _compare_int8.OPERATORS:
        return compare(*_compare_int8.case(op, shape, branches, channels), grad=False)
    rng = np.random.default_rng(0)
    wide = ms.float64 if dtype == ms.float64 else ms.float32

    def random(*extents: int) -> Tensor:
        return Tensor(rng.standard_normal(extents)).astype(dtype)

    tensors = [random(*shape) for _ in range(branches)]
    alpha = Tensor(rng.standard_normal(branches)).astype(wide)
    small = [Tensor(rng.uniform(0.5, 1.5, channels)).astype(wide) for _ in range(4)]
    if op == aggregate.OP:
        return compare(aggregate.agent_aggregate, alpha, *tensors)
    if op == dense.OP:
        inputs = int(np.prod(shape[1:]))
        weight = Tensor(rng.standard_normal((channels, inputs)) / np.sqrt(inputs)).astype(wide)
        return compare(dense.dense, random(shape[0], inputs), weight, small[0], relu=True)
    if op == cross_entropy.OP:
        labels = Tensor(rng.integers(0, channels, shape[0]).astype(np.int32))
        return compare(cross_entropy.cross_entropy, random(shape[0], channels), labels, label_smoothing=0.1)
    if op == adam.OP:
        return _adam_case(rng, (channels, shape[1]))
    if op in (maam.OP, maam_deep.OP, maam_mix.OP, agent_block.OP, conv_block.OP):
        return _module_case(op, rng, random(shape[0], 3, 2 * shape[2], 2 * shape[3]), alpha, shape[1], small)
    weight = Tensor(rng.standard_normal((channels, shape[1], 1, 1)) / np.sqrt(shape[1])).astype(wide)
    if op == reduce.OP:
        return compare(reduce.reduce, tensors[0], weight, *small, training=True)
    return compare(aggregate_reduce.aggregate_reduce, alpha, tensors, weight, *small, training=True)


def _adam_case(rng: np.random.Generator, shape: tuple[int, ...]) -> Report:
    """A few steps on two parameters, float32 whatever the data: they and the states that the steps leave."""
    start = [rng.standard_normal(extents).astype(np.float32) for extents in (shape, shape[:1])]
    gradients = [tuple(Tensor(rng.standard_normal(v.shape).astype(np.float32)) for v in start) for _ in range(_STEPS)]

    def state_after(impl: str) -> tuple[str, list[Parameter]]:
        parameters = [Parameter(Tensor(value.copy()), name=name) for name, value in zip("wb", start, strict=True)]
        optimizer = adam.FusedAdam(parameters, 1e-2, weight_decay=1e-2, impl=impl)
        for step in gradients:
            optimizer(step)
        return optimizer.impl, [*parameters, *optimizer.moment1, *optimizer.moment2]

    states: list[tuple[str, list[Parameter]]] = []

    def run() -> list[Parameter]:
        states.append(state_after(_select.AUTO))
        return states[0][1]

    kernels = kernels_run(run)
    impl, got = states[0]
    _, expected = state_after(_select.REFERENCE)
    rows = [
        difference(f"{left.name} after {_STEPS} steps", left, right) for left, right in zip(got, expected, strict=True)
    ]
    return Report(adam.OP, impl, kernels, rows)


def _module_case(
    op: str, rng: np.random.Generator, x: Tensor, alpha: Tensor, channels: int, last: list[Tensor]
) -> Report:
    """The whole module or a branch of it, of this many channels; its gradients of the statistics, buffers, are zero."""

    def conv(outputs: int, inputs: int, kernel: int) -> Tensor:
        weight = rng.standard_normal((outputs, inputs, kernel, kernel)) / np.sqrt(inputs * kernel * kernel)
        return Tensor(weight.astype(np.float32))

    def conv_norm(inputs: int) -> list[Tensor]:
        vectors = [Tensor(rng.uniform(0.5, 1.5, channels).astype(np.float32)) for _ in range(4)]
        return [conv(channels, inputs, 3), *vectors]

    if op == agent_block.OP:
        return compare(agent_block.agent_block, x, conv_norm(x.shape[1]), conv_norm(channels))
    if op == conv_block.OP:
        return compare(conv_block.conv_block, x, *conv_norm(x.shape[1]), pool=True, training=True)
    deep = op == maam_deep.OP
    branches = [conv_norm(x.shape[1]) + (conv_norm(channels) if deep else []) for _ in range(alpha.size)]
    if op == maam_mix.OP:
        return compare(maam_mix.maam_mix, x, alpha, branches, grad=False)
    function = maam_deep.maam_deep if deep else maam.maam
    return compare(function, x, alpha, branches, conv(last[0].size, channels, 1), *last, grad=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: compare every operator on random data; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m maam_ops.compare", description=main.__doc__)
    parser.add_argument("--op", choices=_select.operators(), action="append", help="one operator; default: all")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16", "float64"], default="float32")
    parser.add_argument("--shape", default="8,64,16,16", help="B,C,H,W of one branch; default %(default)s")
    parser.add_argument("--branches", type=int, default=3, help="2 to 8; default %(default)s")
    parser.add_argument("--channels", type=int, default=128, help="output channels; default %(default)s")
    options = parser.parse_args(arguments)
    try:
        shape = tuple(int(extent) for extent in options.shape.split(","))
    except ValueError:
        parser.error(f"--shape: got {options.shape!r}, expected four whole numbers such as 8,64,16,16")
    operators = options.op or [op for op in _select.operators() if options.dtype != "float64" or op not in _NO_DOUBLE]
    if options.dtype == "float64" and set(operators) & set(_NO_DOUBLE):
        parser.error(f"--dtype: got float64, which {' and '.join(_NO_DOUBLE)} do not take")
    reports = [_case(op, shape, options.branches, options.channels, getattr(ms, options.dtype)) for op in operators]
    print("\n\n".join(str(report) for report in reports))
    return 0 if all(reports) else 1


if __name__ == "__main__":
    raise SystemExit(main())
