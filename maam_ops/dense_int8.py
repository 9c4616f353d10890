"""Dense layer on bytes, Eq. 4 to 8 of the MAAM paper (arXiv 2504.13574): with whole numbers z = x W^T + b

    y = min(round(max(z, 0) scale), 127)    bytes, with ReLU        or        y = z scale    float32

x: 0 to 127; W: -127 to 127. z is exact, so native and reference give the same bits, on every instruction set. There is
no gradient. :func:`maam_ops.quantize` finds weights and scales.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _int8, _native, _select
from maam_ops._cell import FusedCell

OP = "dense_int8"
_SYMBOLS = ("DenseInt8", "DenseInt8Float")


def reference(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, *, relu: bool = True) -> Tensor:
    """The definition in pure MindSpore ops; arguments and result as :func:`dense_int8`."""
    _check(x.shape, x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype, scale.shape)
    inputs, outputs = x.shape[-1], bias.shape[0]
    rows = ops.minimum(x.astype(ms.float64), float(_int8.MAX_ACTIVATION)).reshape(-1, inputs)
    z = ops.matmul(rows, ops.transpose(_int8.unpack(weight, outputs, inputs), (1, 0))) + bias.astype(ms.float64)
    y = _int8.requantise(z, scale) if relu else z.astype(ms.float32) * scale
    return y.reshape((*x.shape[:-1], y.shape[-1]))


def dense_int8(
    x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, *, relu: bool = True, impl: str = "auto"
) -> Tensor:
    """A dense layer on bytes.

    Args:
        x: uint8 (..., K), K a multiple of 4; values above 127 count as 127.
        weight: int8 (ceil(O / 16), K / 4, 16, 4), -127 to 127: output 16 i + l, input 4 q + j at [i, q, l, j].
        bias: int32 (O,), at most 2^30 in magnitude.
        scale: float32 (O,).
        relu: whether y is bytes behind a ReLU; else it is float32.
        impl: "auto", "native" or "reference".

    Returns:
        y: uint8 (..., O rounded up to a multiple of 4), zeros behind output O; or float32 (..., O).

    Raises:
        ValueError: shapes that do not fit, or an unknown ``impl``.
        TypeError: dtype of x, weight or bias.
        RuntimeError: the implementation asked for is not available here.
    """
    _check(x.shape, x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype, scale.shape)
    if _select.chosen(OP, impl, x.shape, None) == "native":
        return _NATIVE[1 if relu else 0](x, weight, bias, scale)
    return reference(x, weight, bias, scale, relu=relu)


class DenseInt8(FusedCell):
    """A dense layer on bytes as a Cell; its parameters are int8, int32 and float32 and not trained.

    Args:
        weight: whole numbers (O, K), -127 to 127.
        bias: whole numbers (O,).
        scale: (O,).
        relu: see :func:`dense_int8`.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        x: uint8 (..., K rounded up to a multiple of 4).

    Outputs:
        y, as of :func:`dense_int8`.
    """

    def __init__(
        self, weight: np.ndarray, bias: np.ndarray, scale: np.ndarray, *, relu: bool, impl: str = "auto"
    ) -> None:
        super().__init__(OP, impl)
        self.relu, self.in_channels, self.out_channels = relu, weight.shape[1], weight.shape[0]
        _int8.parameters_of(self, weight=_int8.pack(weight), bias=bias.astype(np.int32), scale=scale.astype(np.float32))

    def construct(self, x):
        path = _select.path(OP, self.impl, self.automatic, x.shape, None)
        return dense_int8(x, self.weight, self.bias, self.scale, relu=self.relu, impl=path)

    def extend_repr(self) -> str:
        return f"in_channels={self.in_channels}, out_channels={self.out_channels}, relu={self.relu}, impl={self.impl}"


@constexpr
def _check(x, dtype, weight, weight_dtype, bias, bias_dtype, scale) -> bool:
    """Raise unless the operands fit each other and the operator."""
    for name, got, expected in (
        ("x", dtype, ms.uint8),
        ("weight", weight_dtype, ms.int8),
        ("bias", bias_dtype, ms.int32),
    ):
        if got != expected:
            raise TypeError(f"maam_ops.{OP}: {name}: got dtype {got}, expected {expected}")
    inputs = x[-1] if len(x) and x[-1] is not None else -1  # known at run time only
    if len(x) < 1 or inputs == 0 or (inputs > 0 and (inputs % _int8.QUAD or inputs > _int8.MAX_DEPTH)):
        raise ValueError(
            f"maam_ops.{OP}: x: got shape {tuple(x)}, expected (..., K), K a multiple of 4 up to {_int8.MAX_DEPTH}"
        )
    if len(bias) != 1 or tuple(scale) != tuple(bias):
        raise ValueError(f"maam_ops.{OP}: bias and scale: got shapes {tuple(bias)} and {tuple(scale)}, expected (O,)")
    _int8.check_packed(OP, f"weight for x {tuple(x)}", weight, bias[0], inputs)
    return True


_NATIVE = ()
if _native.missing_reason(_SYMBOLS) is None:
    _NATIVE = tuple(
        _native.custom_op(symbol, ["x", "weight", "bias", "scale"], ["y"]) for symbol in ("DenseInt8Float", "DenseInt8")
    )

_select.register(OP, _SYMBOLS)
