"""The elementwise part of reduce in AKG's hybrid DSL, ``impl="akg"``: ReLU((Z - mean) scale + beta), by channel.

The convolution and the statistics around it stay MindSpore ops, whose gradients MindSpore derives.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor
from mindspore.ops.primitive import constexpr

from maam_ops.ascend import _akg

OP = "reduce"

available = _akg.available

NORMALISE_SOURCE = (
    "def normalise_relu(z, mean, scale, beta):\n"
    "    f = output_tensor(z.shape, z.dtype)\n"
    "    for b in range(z.shape[0]):\n"
    "        for c in range(z.shape[1]):\n"
    "            for i in range(z.shape[2]):\n"
    "                f[b, c, i] = max((z[b, c, i] - mean[c]) * scale[c] + beta[c], float32(0.0))\n"
    "    return f\n"
)
# F is not negative, so its sign is the derivative of the ReLU.
MASK_SOURCE = (
    "def relu_grad(f, df):\n"
    "    masked = output_tensor(f.shape, f.dtype)\n"
    "    for b in range(f.shape[0]):\n"
    "        for c in range(f.shape[1]):\n"
    "            for i in range(f.shape[2]):\n"
    "                masked[b, c, i] = df[b, c, i] * sign(f[b, c, i])\n"
    "    return masked\n"
)


def normalise_relu(z: Tensor, mean: Tensor, scale: Tensor, beta: Tensor) -> Tensor:
    """ReLU((z - mean) scale + beta) of z (B, C, H, W) and three vectors (C,), all float32 and of static shape.

    Raises:
        TypeError: another dtype: AKG has no float16 on CPU.
        ValueError: a shape that is only known at run time, or an empty one.
    """
    view = _view(z.shape, z.dtype)
    return _NORMALISE(z.reshape(view), mean, scale, beta).reshape(z.shape)


@constexpr
def _view(shape, dtype):
    """The shape (B, C, pixels) in which kernels see the data."""
    if dtype != ms.float32:
        raise TypeError(f"maam_ops.{OP}: impl='akg': got dtype {dtype}, expected Float32; use impl='auto' for others")
    if min(shape) < 1:
        raise ValueError(
            f"maam_ops.{OP}: impl='akg': got shape {tuple(shape)}, expected at least one element and extents that are "
            "known when the graph is compiled; use impl='auto' for others"
        )
    return shape[0], shape[1], shape[2] * shape[3]


def _same_as_first(*shapes):
    return shapes[0]


def _bprop(z, mean, scale, beta, out, dout):
    masked = _MASK(out, dout)
    by_z = masked * scale.reshape((1, -1, 1))
    centred = z - mean.reshape((1, -1, 1))
    return by_z, -by_z.sum((0, 2)), (masked * centred).sum((0, 2)), masked.sum((0, 2))


_MASK = _NORMALISE = None
if _akg.missing() is None:
    _MASK = _akg.custom_op(_akg.kernel_from_source("relu_grad", MASK_SOURCE), _same_as_first)
    _NORMALISE = _akg.custom_op(_akg.kernel_from_source("normalise_relu", NORMALISE_SOURCE), _same_as_first, _bprop)
