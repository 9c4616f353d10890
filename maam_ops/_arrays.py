"""NumPy arrays with MindSpore's element types, bfloat16 among them, and casts between float32 and the half types."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor

HALVES = ("float16", "bfloat16")
_CACHE_LINE = 64
_NAN = 0x7FC0  # MindSpore's bfloat16 of every NaN
# A cast's temporaries of so many elements stay in the second-level cache.
_BLOCK = 2**15


@dataclass(frozen=True)
class Array:
    """Elements in memory; NumPy has no bfloat16, which stands as uint16."""

    data: np.ndarray
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> Array:
        """The tensor's elements, in memory that may be the tensor's own."""
        # One string for all: a call of many operands reads each name from memory.
        dtype = sys.intern(str(tensor.dtype).lower())
        if tensor.dtype == ms.bfloat16:
            return cls(tensor.float().asnumpy(), "float32").cast(dtype)
        return cls(tensor.asnumpy(), dtype)

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: str) -> Array:
        """Memory that begins with a cache line, as kernels like it best."""
        kind = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        memory = np.empty(size + _CACHE_LINE, np.uint8)
        start = -memory.ctypes.data % _CACHE_LINE
        return cls(memory[start : start + size].view(kind).reshape(shape), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def copy(self) -> Array:
        new = Array.empty(self.shape, self.dtype)
        new.data[...] = self.data
        return new

    def reshape(self, shape: Sequence[int]) -> Array:
        """The same memory in another shape."""
        return Array(self.data.reshape(shape), self.dtype)

    def cast(self, dtype: str) -> Array:
        """As float32 or a half type, rounded to the nearest even; what is none of these stays what it is."""
        if dtype == self.dtype or not {dtype, self.dtype} <= {"float32", *HALVES}:
            return self
        new = Array.empty(self.shape, dtype)
        self.cast_into(new)
        return new

    def cast_into(self, target: Array) -> None:
        """:meth:`cast` to the target's type, into its memory; the types differ."""
        if self.dtype == "bfloat16":
            wide = target if target.dtype == "float32" else Array.empty(self.shape, "float32")
            np.left_shift(self.data, 16, out=wide.data.view(np.uint32), dtype=np.uint32)
            if wide is not target:
                wide.cast_into(target)
        elif target.dtype == "bfloat16":
            _round(np.asarray(self.data, np.float32).reshape(-1), target.data.reshape(-1))
        else:
            with np.errstate(over="ignore", under="ignore"):
                np.copyto(target.data, self.data, casting="same_kind")

    def same(self, other: Array) -> bool:
        """Whether the elements in their order are the same bits, in whatever shape."""
        if self.dtype != other.dtype or self.data.size != other.data.size:
            return False
        first, second = (np.ascontiguousarray(array.data).reshape(-1).view(np.uint8) for array in (self, other))
        return np.array_equal(first, second)


def _round(wide: np.ndarray, target: np.ndarray) -> None:
    """float32 to bfloat16."""
    for start in range(0, wide.size, _BLOCK):
        bits = wide[start : start + _BLOCK].view(np.uint32)
        rounded = bits >> 16
        rounded &= 1
        rounded += 0x7FFF
        rounded += bits
        np.right_shift(rounded, 16, out=target[start : start + _BLOCK], casting="unsafe")
    nan = np.isnan(wide)
    if nan.any():
        target[nan] = _NAN
