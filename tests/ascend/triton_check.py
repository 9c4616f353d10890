"""Run by test_triton.py in a process of its own: Triton decides at import whether it interprets.

`lower` brings the kernels to Ascend's MLIR for the 910B3; `interpret` runs them and compares with NumPy. Needs
triton-ascend and NumPy alone: no torch, no CANN, no card.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

COUNT, BLOCK = 3, 1024
SOURCE = Path(__file__).resolve().parents[2] / "maam_ops" / "ascend" / "aggregate_triton.py"


def load_kernels():
    spec = importlib.util.spec_from_file_location("aggregate_triton", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Array:
    """What Triton's interpreter asks of a tensor, on a NumPy array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.dtype = values.dtype

    def data_ptr(self) -> int:
        return self.values.ctypes.data

    def cpu(self) -> Array:
        return self

    def to(self, _) -> Array:
        return self

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def data(self) -> Array:
        return self

    def copy_(self, other: Array) -> None:
        self.values[...] = other.values


def interpret() -> None:
    kernels = load_kernels()
    rng = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 1e-6), (np.float16, 1e-3)):
        for size in (1, 1000, 1024, 3000):
            check(kernels, rng, dtype, tolerance, size)


def check(kernels, rng, dtype, tolerance, size) -> None:
    programs = -(-size // BLOCK)
    alpha = rng.standard_normal(COUNT).astype(np.float32)
    a, dg = rng.standard_normal((COUNT, size)).astype(dtype), rng.standard_normal(size).astype(dtype)
    g, da = np.full(size, np.nan, dtype), np.full((COUNT, size), np.nan, dtype)
    rows, dalpha = np.full((programs, 8), np.nan, np.float32), np.full(COUNT, np.nan, np.float32)
    branches = [Array(a[min(k, COUNT - 1)]) for k in range(8)]
    gradients = [Array(da[min(k, COUNT - 1)]) for k in range(8)]
    kernels.aggregate_forward[(programs,)](Array(alpha), *branches, Array(g), size, count=COUNT, block=BLOCK)
    kernels.aggregate_backward[(programs,)](
        Array(alpha), Array(dg), *branches, *gradients, Array(rows), size, count=COUNT, block=BLOCK
    )
    kernels.aggregate_alpha_gradient[(1,)](Array(alpha), Array(rows), Array(dalpha), programs, count=COUNT)

    w = np.exp(alpha.astype(float) - alpha.max())
    w /= w.sum()
    dots = a.astype(float) @ dg.astype(float)
    np.testing.assert_allclose(g, w @ a.astype(float), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(da, np.outer(w, dg), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dalpha, w * (dots - w @ dots), rtol=1e-4, atol=1e-4)


def lower() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    kernels = load_kernels()
    for name in ("aggregate_forward", "aggregate_backward", "aggregate_alpha_gradient"):
        kernel = getattr(kernels, name)
        constants = {key: value for key, value in (("count", COUNT), ("block", BLOCK)) if key in kernel.arg_names}
        integers = ("size", "programs")
        signature = {
            argument: "i32" if argument in integers else "*fp32"
            for argument in kernel.arg_names
            if argument not in constants
        }
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TRITON_CACHE_DIR"] = cache
            try:
                compile(ASTSource(kernel, signature, constants), target=GPUTarget("npu", "Ascend910B3", 0))
            except Exception as error:  # the last stage is CANN's compiler
                if "ASCEND_HOME_PATH" not in str(error):
                    raise
            (lowered,) = Path(cache).rglob(f"{name}.ttadapter")
            text = lowered.read_text()
            assert f"func.func @{name}(" in text and "linalg." in text, text[:500]


if __name__ == "__main__":
    {"lower": lower, "interpret": interpret}[sys.argv[1]]()
