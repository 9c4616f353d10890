"""Kernel beside reference, on the user's own inputs: ``maam_ops.compare`` and ``python -m maam_ops.compare``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from maam_ops import _select
from maam_ops._compare_sides import CellSide, FunctionSide
from maam_ops._rounding import EPSILON, FACTOR, MOVES, as_double, moved
from maam_ops.explain import kernels_run

# Largest error allowed, relative to the largest magnitude of the tensor: both sides round, in different orders. None in
# whole numbers.
TOLERANCE = {ms.float64: 1e-12, ms.float32: 1e-5, ms.float16: 2e-3, ms.bfloat16: 1.6e-2}


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
        sensitivity: measured only where max_relative is more than the dtype's tolerance: how far, relative likewise,
            the reference's own tensor moves when its inputs do by a few last places. A ReLU close to 0 or a max-pool
            close to a tie decides otherwise then, and neither answer is wrong.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    max_abs: float
    max_relative: float
    max_ulp: float
    passed: bool
    problem: str = ""
    sensitivity: float | None = None


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
            if d.sensitivity is not None:
                verdict += f" (rounding moves the reference by {d.sensitivity:.1e})"
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
    running statistics are put back afterwards, also where it raises.

    Args:
        op_or_cell: a function of ``maam_ops.functional`` or any Cell.
        inputs: what to call it with.
        grad: also compare the gradients of every floating-point input and trainable parameter, for a fixed random
            incoming gradient. Running statistics take none and are left out.
        impl: the side to be checked, "auto" being what would run.
        rtol: error allowed relative to the largest magnitude of each tensor, instead of the dtype's :data:`TOLERANCE`,
            which counts for more where the reference itself is no steadier than that: see :class:`Difference`.
        keywords: passed on to a function, for instance ``training=True``.

    Returns:
        Report: one row for each output, gradient and changed parameter.

    Raises:
        TypeError: neither a function nor a Cell, or keywords beside a Cell.
        ValueError: a function or a Cell without a fused operator, or an unknown ``impl``.
    """
    if keywords and isinstance(op_or_cell, nn.Cell):
        raise TypeError(
            f"maam_ops.compare: keywords: got {', '.join(keywords)} beside a Cell, expected none, as they are for "
            "functions; a Cell is told by its own means, such as set_train()"
        )
    side = CellSide(op_or_cell) if isinstance(op_or_cell, nn.Cell) else FunctionSide(op_or_cell, keywords)
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        chosen = side.resolve(impl)
        got: list[tuple[str, Tensor]] = []

        def run() -> list[Tensor]:
            got.extend(side.results(impl, inputs, grad))
            return [value for _, value in got]

        kernels = kernels_run(run)
        expected = side.results(_select.REFERENCE, inputs, grad)
        differences = [
            difference(name, value, truth, rtol) for (name, value), (_, truth) in zip(got, expected, strict=True)
        ]
        if rtol is None and not all(row.passed for row in differences):
            others = [dict(side.results(_select.REFERENCE, moved(inputs, seed), grad)) for seed in range(MOVES)]
            for index, (row, (name, truth)) in enumerate(zip(differences, expected, strict=True)):
                if not row.passed and not row.problem and all(name in results for results in others):
                    there = [results[name] for results in others]
                    differences[index] = _unless_sensitive(row, got[index][1], truth, there)
    finally:
        ms.set_context(mode=mode)
    return Report(side.name, chosen, kernels, differences)


def difference(name: str, got: Tensor, expected: Tensor, rtol: float | None = None) -> Difference:
    """Measure one tensor against its reference; wrong shape, dtype or places of NaN and infinity fail."""
    dtype, shape = expected.dtype, tuple(expected.shape)
    text = str(dtype).lower()
    if tuple(got.shape) != shape or got.dtype != dtype:
        problem = f"got {got.dtype}{tuple(got.shape)}, expected {dtype}{shape}"
        return Difference(name, text, shape, np.inf, np.inf, np.inf, False, problem)
    left, right = as_double(got), as_double(expected)
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
    place = np.exp2(np.floor(np.log2(np.maximum(magnitude, largest * 0.1 + 1e-300)))) * EPSILON.get(dtype, 1.0)
    relative = float(error.max()) / largest if largest > 0 else (np.inf if error.max() > 0 else 0.0)
    allowed = TOLERANCE.get(dtype, 0.0) if rtol is None else rtol
    return Difference(
        name, text, shape, float(error.max()), relative, float((error / place).max()), bool(relative <= allowed)
    )


def _unless_sensitive(row: Difference, got: Tensor, expected: Tensor, others: Sequence[Tensor]) -> Difference:
    """The same row, passed if the moved inputs change the reference as much: at its worst element, and on the whole."""
    truth = as_double(expected)
    peak, total = zip(*(_peak_and_norm(as_double(other) - truth) for other in others), strict=True)
    got_peak, got_total = _peak_and_norm(as_double(got) - truth)
    passed = got_peak <= FACTOR * max(peak) and got_total <= FACTOR * max(total)
    largest, _ = _peak_and_norm(truth)
    return replace(row, passed=passed, sensitivity=max(peak) / (largest or 1.0))


def _peak_and_norm(error: np.ndarray) -> tuple[float, float]:
    error = error[np.isfinite(error)]
    return float(np.abs(error).max(initial=0.0)), float(np.sqrt(np.square(error).sum()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: compare every operator on random data; exit code 1 if one fails."""
    from maam_ops import _compare_cases as cases  # which need what this file defines

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
    dtype = getattr(ms, options.dtype)
    operators = options.op or [op for op in _select.operators() if dtype != ms.float64 or op in cases.DOUBLE]
    if dtype == ms.float64 and not cases.DOUBLE.issuperset(operators):
        parser.error(f"--dtype: got float64, which only {', '.join(sorted(cases.DOUBLE))} take")
    reports = [cases.run(op, shape, options.branches, options.channels, dtype) for op in operators]
    print("\n\n".join(str(report) for report in reports))
    return 0 if all(reports) else 1


if __name__ == "__main__":
    raise SystemExit(main())
