"""``tbe.tvm``: placeholders and the target scope."""

from __future__ import annotations

import contextlib

from tbe.graph import Tensor

_DTYPES = ("float16", "float32")


def placeholder(shape, dtype="float32", name="placeholder") -> Tensor:
    if dtype not in _DTYPES:
        raise RuntimeError(f"placeholder {name}: dtype {dtype}")
    return Tensor(tuple(shape), dtype, name)


class target:
    @staticmethod
    @contextlib.contextmanager
    def cce():
        yield
