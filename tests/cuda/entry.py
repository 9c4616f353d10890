"""Shapes, dtypes and addresses of a call in the form that entry points take."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence


class Signature:
    """The first five arguments of a call; what they point at lives as long as this object."""

    def __init__(self, shapes: Sequence[Sequence[int]], dtypes: Sequence[str], addresses: Sequence[int]) -> None:
        count = len(shapes)
        extents = [(ctypes.c_int64 * max(1, len(shape)))(*shape) for shape in shapes]
        pointer = ctypes.POINTER(ctypes.c_int64)
        self._extents = extents
        self.count = count
        self.params = (ctypes.c_void_p * count)(*addresses)
        self.ndims = (ctypes.c_int * count)(*(len(shape) for shape in shapes))
        self.shapes = (pointer * count)(*(ctypes.cast(extent, pointer) for extent in extents))
        self.dtypes = (ctypes.c_char_p * count)(*(dtype.encode() for dtype in dtypes))

    @property
    def arguments(self):
        return self.count, self.params, self.ndims, self.shapes, self.dtypes
