"""The CUDA library on a GPU, its exported AOT symbols called through ctypes, on memory of PyTorch or CuPy.

MindSpore is not needed: on a machine with a GPU, `make cuda && python -m pytest tests/cuda -m cuda`.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.cuda.emulated import KernelFault
from tests.cuda.entry import Signature
from tests.maam_ops.arrays import Array

ROOT = Path(__file__).resolve().parents[2]
_MESSAGE_BYTES = 2048


def library_path() -> Path:
    """The library that `make cuda` builds; MAAM_OPS_CUDA_LIBRARY names another one."""
    return Path(os.environ.get("MAAM_OPS_CUDA_LIBRARY", ROOT / "maam_ops" / "libmaam_ops_cuda.so"))


class _TorchMemory:
    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.available = torch.cuda.is_available()

    def upload(self, raw: np.ndarray):
        return self.torch.from_numpy(raw.copy()).cuda()

    def address(self, buffer) -> int:
        return buffer.data_ptr()

    def download(self, buffer) -> np.ndarray:
        return buffer.cpu().numpy()

    def new_stream(self):
        return self.torch.cuda.Stream()

    def stream_handle(self, stream) -> int:
        return stream.cuda_stream

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()


class _CupyMemory:
    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.available = cupy.cuda.is_available()

    def upload(self, raw: np.ndarray):
        return self.cupy.asarray(raw)

    def address(self, buffer) -> int:
        return buffer.data.ptr

    def download(self, buffer) -> np.ndarray:
        return buffer.get()

    def new_stream(self):
        return self.cupy.cuda.Stream(non_blocking=True)

    def stream_handle(self, stream) -> int:
        return stream.ptr

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()


@functools.cache
def _memory():
    for kind in (_TorchMemory, _CupyMemory):
        try:
            memory = kind()
        except ImportError:
            continue
        if memory.available:
            return memory
    return None


def why_not() -> str | None:
    """Why nothing can run on a GPU here, or None."""
    if not library_path().exists():
        return f"needs the CUDA library {library_path().name}: make cuda"
    if _memory() is None:
        return "needs an NVIDIA GPU, and PyTorch or CuPy to reach its memory"
    return None


class Gpu:
    """Runs entry points on a GPU, on a stream of its own; for ``arrays.launching``."""

    name = "gpu"

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(library_path()))
        self.memory = _memory()
        self.stream = self.memory.new_stream()

    def __call__(self, function: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        arrays = [*inputs, *outputs]
        buffers = [self.memory.upload(a.raw) for a in arrays]  # guards and misalignment travel along
        addresses = [self.memory.address(b) + a.offset_bytes for a, b in zip(arrays, buffers, strict=True)]
        self.memory.synchronize()
        self.call(function, [a.data.shape for a in arrays], [a.dtype for a in arrays], addresses)
        self.memory.synchronize()
        for array, buffer in zip(arrays, buffers, strict=True):
            array.raw[...] = self.memory.download(buffer)

    def call(self, function: str, shapes, dtypes, addresses) -> None:
        """One call on device memory; returns when the work is queued."""
        signature = Signature(shapes, dtypes, addresses)
        stream = ctypes.c_void_p(self.memory.stream_handle(self.stream))
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        size = ctypes.c_int64(_MESSAGE_BYTES)
        if self.library.MaamOpsCall(function.encode(), *signature.arguments, stream, message, size) != 0:
            raise KernelFault(message.value.decode())

    def call_symbol(self, function: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """As a call of this object, but through the exported symbol itself, as MindSpore loads it."""
        arrays = [*inputs, *outputs]
        buffers = [self.memory.upload(a.raw) for a in arrays]
        addresses = [self.memory.address(b) + a.offset_bytes for a, b in zip(arrays, buffers, strict=True)]
        self.memory.synchronize()
        signature = Signature([a.data.shape for a in arrays], [a.dtype for a in arrays], addresses)
        stream = ctypes.c_void_p(self.memory.stream_handle(self.stream))
        assert getattr(self.library, function)(*signature.arguments, stream, None) == 0
        self.memory.synchronize()
        for array, buffer in zip(arrays, buffers, strict=True):
            array.raw[...] = self.memory.download(buffer)

    def check_large_aggregate(self, size: int) -> None:
        """Two float16 branches of `size` elements, made and checked on the device by PyTorch, piece by piece."""
        torch = self.memory.torch
        a = [torch.empty(size, dtype=torch.float16, device="cuda").normal_() for _ in range(2)]
        g = torch.full((size,), float("nan"), dtype=torch.float16, device="cuda")
        alpha = torch.zeros(2, device="cuda")
        tensors = [alpha, *a, g]
        self.memory.synchronize()
        dtypes = ["float32", *["float16"] * 3]
        self.call("AggregateForward", [t.shape for t in tensors], dtypes, [t.data_ptr() for t in tensors])
        self.memory.synchronize()
        for first in range(0, size, 1 << 27):
            piece = slice(first, first + (1 << 27))
            expected = (0.5 * a[0][piece].float() + 0.5 * a[1][piece].float()).half()
            assert torch.equal(g[piece], expected), f"wrong between elements {first} and {first + (1 << 27)}"
