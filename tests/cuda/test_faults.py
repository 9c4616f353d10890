"""Faults planted into a copy of the kernels: the emulator or the oracle must find every one."""

from __future__ import annotations

import ctypes
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.cuda import emulated
from tests.cuda.test_aggregate import Case as AggregateCase
from tests.cuda.test_reduce import Case as ReduceCase
from tests.maam_ops import arrays
from tests.maam_ops.maam_case import MaamCase


def aggregate_forward():
    AggregateCase(1027, 3, "float32", offset=1).check_forward()


def aggregate_backward():
    for offset in (0, 1):
        AggregateCase(2051, 3, "float32", offset=offset).check_backward()


def reduce_inference():
    ReduceCase((2, 40, 70), 5, branches=2).check_inference()


def reduce_training():
    ReduceCase((2, 40, 700), 5, branches=2).check_training()


def reduce_training_of_few_pixels():
    ReduceCase((1, 4, 5), 3).check_training()


def reduce_backward():
    case = ReduceCase((2, 40, 160), 5, branches=2)
    case.check_backward(case.check_training())


def maam():
    MaamCase((1, 3, 7, 9), channels=20).check()


@dataclass(frozen=True)
class Fault:
    """A statement (or an expression) of a kernel, what stands there instead, and who sees that.

    Attributes:
        found: what the emulator, or the comparison with the oracle, must say.
    """

    name: str
    file: str
    old: str
    new: str
    run: Callable[[], None]
    found: str
    is_expression: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


AGGREGATE, BLOCK, PRODUCT = "aggregate/cuda.cu", "core/cuda/block.h", "core/cuda/product.h"
FORWARD, BACKWARD, MAAM = "reduce/cuda_forward.h", "reduce/cuda_backward.h", "maam/cuda.cu"
RACE = "another thread is (writing|reading)"
UNWRITTEN = "nobody has written"

FAULTS = [
    Fault(
        "missing barrier in the sum over a block",
        BLOCK,
        "  __syncthreads();\n",
        "  ;\n",
        aggregate_backward,
        f"{RACE}|{UNWRITTEN}",
    ),
    Fault(
        "one element written past the end",
        AGGREGATE,
        "tail + thread < p.size",
        "tail + thread <= p.size",
        aggregate_forward,
        "outside every array",
        True,
    ),
    Fault(
        "tail read past the end",
        AGGREGATE,
        "j < i + kLanes && j < p.size",
        "j < i + kLanes",
        aggregate_backward,
        "outside every array",
        True,
    ),
    Fault(
        "packs at addresses that are not aligned",
        AGGREGATE,
        "operands.packs = misalignment == 0;",
        "operands.packs = 1;",
        aggregate_backward,
        "misaligned access",
    ),
    Fault(
        "one partial sum too many",
        AGGREGATE,
        "i < count;",
        "i <= count;",
        aggregate_backward,
        "outside every array",
        True,
    ),
    Fault(
        "weight forgotten in d alpha",
        AGGREGATE,
        "static_cast<W>(w[k] * (dots[k] - mean))",
        "static_cast<W>(dots[k] - mean)",
        aggregate_backward,
        "d alpha: error",
        True,
    ),
    Fault(
        "missing barrier before a slab is filled again",
        PRODUCT,
        "if (depth != begin) __syncthreads();",
        ";",
        reduce_inference,
        RACE,
    ),
    Fault(
        "missing barrier behind the filling of a slab",
        PRODUCT,
        "__syncthreads();\n      sums.Add(l, r);",
        "sums.Add(l, r);",
        reduce_inference,
        f"{RACE}|{UNWRITTEN}",
    ),
    Fault(
        "missing barrier before the result takes the slabs' place",
        PRODUCT,
        "__syncthreads();\n    sums.Write(",
        "sums.Write(",
        reduce_inference,
        RACE,
    ),
    Fault(
        "shared memory too small",
        FORWARD,
        "Tile::kBytes + 3 * P::kRows * static_cast<int>(sizeof(W))",
        "Tile::kBytes",
        reduce_inference,
        "shared memory: outside",
        True,
    ),
    Fault(
        "channels that do not exist are written",
        FORWARD,
        "row + i >= outputs || seat.valid == 0",
        "seat.valid == 0",
        reduce_inference,
        "outside every array|two threads write",
        True,
    ),
    Fault(
        "mean over pixels that do not exist",
        FORWARD,
        "WarpSum(first) / count",
        "WarpSum(first) / P::kColumns",
        reduce_training,
        "mean: error|rstd: error",
        True,
    ),
    Fault(
        "biased variance in the moving one",
        FORWARD,
        "(moments.squares / (n - 1))",
        "(moments.squares / n)",
        reduce_training_of_few_pixels,
        "moving_variance: error",
        True,
    ),
    Fault(
        "tiles counted twice",
        FORWARD,
        "tile += kSlices",
        "tile += kSlices / 2",
        reduce_training,
        "mean: error|rstd: error",
        True,
    ),
    Fault(
        "mean of dY forgotten in dZ",
        BACKWARD,
        "static_cast<W>(-factor * dy)",
        "static_cast<W>(0)",
        reduce_backward,
        "d[WA]: error",
        True,
    ),
    Fault(
        "chunks of dW that overlap",
        BACKWARD,
        "begin + p.chunk_pixels < total ? begin + p.chunk_pixels",
        "begin + p.chunk_pixels < total ? begin + p.chunk_pixels + P::kDepth",
        reduce_backward,
        "dW: error",
    ),
    Fault(
        "missing barrier before the panel is read",
        MAAM,
        "    __syncthreads();\n#pragma unroll 4",
        "#pragma unroll 4",
        maam,
        f"{RACE}|{UNWRITTEN}",
    ),
    Fault(
        "pixels staged one row too low",
        MAAM,
        "i / edge % edge - border",
        "i / edge % edge - border + 1",
        maam,
        "F: error",
        True,
    ),
]


def _planted(source: str, fault: Fault, number: int) -> str:
    assert source.count(fault.old) == 1, f"{fault.name}: the fault no longer fits {fault.file}"
    if fault.is_expression:
        end = ";" if fault.old.endswith(";") else ""
        old, new = fault.old.removesuffix(";"), fault.new.removesuffix(";")
        return source.replace(fault.old, f"(planted_fault == {number} ? ({new}) : ({old})){end}")
    if "#pragma" in fault.old:  # a statement cannot be chosen around a pragma: only the barrier before it
        old, rest = fault.old.split("\n", 1)
        return source.replace(fault.old, f"if (planted_fault != {number}) {{ {old} }}\n{rest}")
    if "__syncthreads();" in fault.old and fault.old.endswith(fault.new):  # a barrier and what follows it
        return source.replace(fault.old, f"if (planted_fault != {number}) __syncthreads();\n{fault.new}")
    if "?" in fault.old:
        tail = fault.new.removeprefix(fault.old)
        return source.replace(fault.old, f"{fault.old}{tail} * (planted_fault == {number})")
    return source.replace(fault.old, f"if (planted_fault == {number}) {{ {fault.new} }} else {{ {fault.old} }}")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> emulated.Emulated:
    """The library with every fault in it, asleep: fault i is active while `planted_fault` is i."""
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    csrc = tmp_path_factory.mktemp("planted") / "csrc"
    shutil.copytree(emulated.CSRC, csrc)
    for number, fault in enumerate(FAULTS):
        path = csrc / fault.file
        path.write_text(_planted(path.read_text(), fault, number))
    header, source = csrc / "core" / "dtype.h", csrc / "core" / "aot.cc"
    header.write_text(header.read_text().replace("#pragma once", "#pragma once\nextern int planted_fault;", 1))
    source.write_text(source.read_text() + '\n__attribute__((visibility("default"))) int planted_fault = -1;\n')
    return emulated.Emulated(emulated.build(csrc))


def _wake(runner: emulated.Emulated, number: int) -> None:
    ctypes.c_int.in_dll(runner.library, "planted_fault").value = number


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=[str(fault) for fault in FAULTS])
def test_a_planted_fault_is_found(faulty, number):
    _wake(faulty, number)
    with arrays.launching(lambda _: faulty), pytest.raises((emulated.KernelFault, AssertionError)) as error:
        FAULTS[number].run()
    assert re.search(FAULTS[number].found, str(error.value)), str(error.value)


@pytest.mark.parametrize(
    "run",
    [aggregate_forward, aggregate_backward, reduce_inference, reduce_backward, maam],
    ids=lambda run: run.__name__,
)
def test_without_a_fault_the_same_cases_pass(faulty, run):
    _wake(faulty, -1)
    with arrays.launching(lambda _: faulty):
        run()
