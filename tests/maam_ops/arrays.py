"""NumPy arrays of every kernel dtype, in hostile memory, and calls of entry points on them, whoever runs these."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

DTYPES = ("float32", "float16", "bfloat16", "float64")
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_STORAGE = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "float64": np.float64,
    "int32": np.int32,
    "uint8": np.uint8,
    "int8": np.int8,
}
_GUARD = 64  # elements on each side of an array
_POISON = 0x7F  # a byte that makes NaN or a huge number in every dtype


def rounding(dtype: str, values: np.ndarray) -> np.ndarray | float:
    """What rounding float32 results to ``dtype`` may add."""
    smallest = {"float16": 2.0**-14, "bfloat16": 2.0**-126}  # below, the spacing stays
    return 0.0 if dtype == "float32" else EPSILON[dtype] / 2 * np.maximum(np.abs(values), smallest[dtype])


def within(dtype: str, values: np.ndarray) -> np.ndarray:
    """Infinity for what rounding to float16 takes beyond its largest number, 65504."""
    return np.where(np.abs(values) < 65520, values, np.copysign(np.inf, values)) if dtype == "float16" else values


def compute_epsilon(dtype: str) -> float:
    """Precision of the arithmetic: halves are computed in float32."""
    return EPSILON["float64" if dtype == "float64" else "float32"]


def parameter_dtype(dtype: str) -> str:
    """dtype of alpha, gamma and the like beside data of ``dtype``."""
    return "float64" if dtype == "float64" else "float32"


class Array:
    """Elements of one dtype between guard zones, ``offset`` elements away from the allocation's alignment.

    Attributes:
        updated: whether the operator overwrites this operand with a result.
    """

    updated = False

    def __init__(self, values: np.ndarray, dtype: str, offset: int = 0) -> None:
        values = np.asarray(values, np.float64)
        self.dtype = dtype
        storage = _STORAGE[dtype]
        raw = np.full((values.size + 2 * _GUARD + offset) * np.dtype(storage).itemsize, _POISON, np.uint8)
        self._all = raw.view(storage)
        self._start = _GUARD + offset
        self.data = self._all[self._start : self._start + values.size].reshape(values.shape)
        self.data[...] = _narrow(values, dtype)
        self._before = raw.copy()
        self._raw = raw

    @classmethod
    def poisoned(cls, shape: Sequence[int], dtype: str, offset: int = 0) -> Array:
        """For a result: every element is NaN until written, or 0xEE where there is no NaN."""
        return cls(np.full(shape, 0xEE if dtype == "uint8" else np.nan), dtype, offset)

    @property
    def raw(self) -> np.ndarray:
        """The bytes of the elements and of the guard zones around them."""
        return self._raw

    @property
    def offset_bytes(self) -> int:
        """Where in ``raw`` the elements begin."""
        return self._start * self.data.itemsize

    @property
    def values(self) -> np.ndarray:
        return _widen(self.data, self.dtype)

    def frozen(self) -> Array:
        """A result from now on an operand: it must not change any more."""
        self._before = self._raw.copy()
        return self

    def assert_untouched(self) -> None:
        assert self._raw.tobytes() == self._before.tobytes(), "an input was written"

    def assert_guards(self) -> None:
        item = self.data.itemsize
        first, last = self._start * item, (self._start + self.data.size) * item
        assert (self._raw[:first] == _POISON).all(), "written before the start of a result"
        assert (self._raw[last:] == _POISON).all(), "written past the end of a result"


def _narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return values.astype(_STORAGE[dtype])
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _widen(data: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float64":  # an oracle must have more digits than the kernel
        return data.astype(np.longdouble)
    if dtype != "bfloat16":
        return data.astype(np.float64)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return (data.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


Launch = Callable[[str, Sequence[Array], Sequence[Array]], None]


def _nowhere(function: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    raise AssertionError(f"{function}: no library to run it: import tests.maam_ops.native, or use launching()")


_launch: Launch = _nowhere


def launch_by(run: Launch) -> None:
    """Let calls of entry points go to ``run(function, inputs, outputs)`` from now on."""
    global _launch
    _launch = run


@contextlib.contextmanager
def launching(wrap: Callable[[Launch], Launch]) -> Iterator[None]:
    """Let calls of entry points go through ``wrap(launch)``: to record them, or to plant a fault."""
    global _launch
    before, _launch = _launch, wrap(_launch)
    try:
        yield
    finally:
        _launch = before


def launch(function: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Call an entry point and check that it wrote nothing but its results."""
    _launch(function, inputs, outputs)
    for array in inputs:
        array.assert_guards() if array.updated else array.assert_untouched()
    for array in outputs:
        array.assert_guards()


def assert_close(got: np.ndarray, expected: np.ndarray, bound: np.ndarray | float, what: str) -> None:
    """Every element within ``bound``; NaN and infinities in the same places."""
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    limit, finite = np.broadcast_to(bound, expected.shape), np.isfinite(expected)
    if not finite.all():
        np.testing.assert_array_equal(got[~finite], expected[~finite], err_msg=f"{what}: NaN or infinity misplaced")
        got, expected, limit = got[finite], expected[finite], limit[finite]
    assert np.isfinite(got).all(), f"{what}: not finite"
    error = np.abs(got - expected).ravel()
    limit = limit.ravel()
    worst = np.argmax(error - limit) if error.size else 0
    assert (error <= limit).all(), f"{what}: error {error[worst]:.3g} exceeds {limit[worst]:.3g}"
