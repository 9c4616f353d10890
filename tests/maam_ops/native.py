"""The native kernels on the arrays of arrays.py, without MindSpore between; and these arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from tests.kernels import Runner
from tests.kernels import core as _core

from .arrays import (
    DTYPES,
    EPSILON,
    Array,
    Launch,
    assert_close,
    compute_epsilon,
    launch,
    launch_by,
    launching,
    parameter_dtype,
    rounding,
)

# Tests of kernels take everything from here.
__all__ = [
    "DTYPES",
    "EPSILON",
    "Array",
    "Launch",
    "assert_close",
    "capped",
    "compute_epsilon",
    "isas",
    "launch",
    "launching",
    "parameter_dtype",
    "reached_through",
    "rounding",
    "threads",
]


def _run(function: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    arrays = [*inputs, *outputs]
    operands = [a.data for a in inputs], [a.data for a in outputs], [a.dtype for a in arrays]
    if isinstance(_core, Runner):
        _core.launch(function, *operands, updated=[i for i, a in enumerate(inputs) if a.updated])
    else:
        _core.launch(function, *operands)


launch_by(_run)


def isas(kernel: str) -> list[str]:
    """The variants of a kernel that this CPU can run."""
    return [isa for name, isa, runnable in _core.kernels() if name == kernel and runnable]


@contextlib.contextmanager
def reached_through(core) -> Iterator[None]:
    """Let the kernels be called through another process, see tests/kernels.py."""
    global _core
    before, _core = _core, core
    try:
        yield
    finally:
        _core = before


@contextlib.contextmanager
def capped(isa: str) -> Iterator[None]:
    """Use no instruction set above ``isa``, and be sure that it is the one that runs."""
    _core.cap_isa(isa)
    try:
        assert _core.active_isa() == isa
        yield
    finally:
        _core.cap_isa(_core.detected_isa())


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    before = _core.num_threads()
    _core.set_num_threads(n)
    try:
        yield
    finally:
        _core.set_num_threads(before)
