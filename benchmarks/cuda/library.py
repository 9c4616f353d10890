"""Entry points of the CUDA library on PyTorch tensors, through ctypes, on PyTorch's current stream."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch

from tests.cuda.entry import Signature
from tests.cuda.gpu import library_path

_NAMES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float64: "float64",
}


def prepared(function: str, tensors: Sequence[torch.Tensor]) -> Callable[[], None]:
    """A call of the exported symbol on these tensors, inputs and then outputs, that costs Python next to nothing."""
    symbol = getattr(ctypes.CDLL(str(library_path())), function)
    signature = Signature(
        [tuple(t.shape) for t in tensors], [_NAMES[t.dtype] for t in tensors], [t.data_ptr() for t in tensors]
    )

    def call() -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        symbol(*signature.arguments, stream, None)

    call.keep = tensors  # the addresses in the signature are theirs
    return call
