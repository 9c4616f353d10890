"""The whole multi-agent module on bytes, images to F, Eq. 1, 9 and 3 of the MAAM paper (arXiv 2504.13574), inference.

    q   = round(min(max(X / step + zero, 0), 127))
    z_i = maxpool2x2(conv_i(q)) + b_i                                q = zero around the image
    G   = min(round(sum_i max(z_i, 0) scale_g), 127)
    F   = min(round(max(conv1x1(G) + b, 0) scale_f), 127)            bytes, channels last

Normalisations and softmax(alpha) are part of weights and biases, whole numbers of one unit for all branches of a
channel. Everything but the products with scales is exact, so native and reference give the same bits, on every
instruction set. There is no gradient. :func:`maam_ops.quantize` finds weights and scales.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _int8, _native, _select
from maam_ops._cell import FusedCell
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES

OP = "maam_int8"
_SYMBOLS = ("MaamInt8",)


def reference(
    x: Tensor,
    step: Tensor,
    branches: Sequence[Sequence[Tensor]],
    g_scale: Tensor,
    weight: Tensor,
    bias: Tensor,
    f_scale: Tensor,
    *,
    kernels: Sequence[int],
) -> Tensor:
    """The definition in pure MindSpore ops; arguments and result as :func:`maam_int8`."""
    _check(x.shape, x.dtype, step.shape, _shapes(branches), kernels, g_scale.shape, weight.shape, f_scale.shape)
    q = ops.transpose(_int8.quantise(x.astype(ms.float32), step).astype(ms.float64), (0, 2, 3, 1))
    total = 0.0
    for i in range(len(branches)):
        z = _int8.convolve(q, branches[i][0], g_scale.shape[0], kernels[i], step[1].astype(ms.float64))
        total = total + ops.maximum(_int8.max_pool(z) + branches[i][1].astype(ms.float64), 0.0)
    g = _int8.requantise(total, g_scale)[:, :, :, : g_scale.shape[0]]
    return _int8.reduce(g.astype(ms.float64), weight, bias, f_scale)


def maam_int8(
    x: Tensor,
    step: Tensor,
    branches: Sequence[Sequence[Tensor]],
    g_scale: Tensor,
    weight: Tensor,
    bias: Tensor,
    f_scale: Tensor,
    *,
    kernels: Sequence[int],
    impl: str = "auto",
) -> Tensor:
    """The whole module on bytes. Packed weights: see :func:`maam_ops.functional.dense_int8`; whole numbers -127 to 127.

    Args:
        x: images (B, Cin, H, W), H and W at least 2; float32, float16 or bfloat16. NaN counts as 0, and what lies
            beyond 0 or 127 steps, infinities too, as these.
        step: float32 (2,): 1 / step of X, and zero, a whole number 0 to 127.
        branches: for each of N branches (2 to 8) the packed weight of its convolution, a depth of k k Cin in the order
            row, column, input channel, and its bias, int32 (C,), at most 2^27 in magnitude.
        g_scale: float32 (C,).
        weight, bias, f_scale: of the 1x1 convolution: packed, int32 (O,), float32 (O,).
        kernels: k of each branch: 1, 3, 5 or 7.
        impl: "auto", "native" or "reference".

    Returns:
        F: uint8 (B, H // 2, W // 2, O rounded up to a multiple of 4), zeros behind channel O.

    Raises:
        ValueError: shapes that do not fit, or an unknown ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    _check(x.shape, x.dtype, step.shape, _shapes(branches), kernels, g_scale.shape, weight.shape, f_scale.shape)
    if _select.chosen(OP, impl, x.shape, None) != "native":
        return reference(x, step, branches, g_scale, weight, bias, f_scale, kernels=kernels)
    wide = x if x.dtype == ms.float32 else x.astype(ms.float32)
    operands = []
    for branch in branches:
        operands.append(branch[0])
        operands.append(branch[1])
    return _NATIVE[len(branches)](wide, step, _sizes(kernels), *operands, g_scale, weight, bias, f_scale)


class MaamInt8(FusedCell):
    """The module on bytes as a Cell; its parameters are int8, int32 and float32 and not trained.

    Args:
        step: (1 / step, zero).
        branches: for each branch whole numbers (C, Cin, k, k) and (C,).
        g_scale: (C,).
        weight, bias, f_scale: of the 1x1 convolution, (O, C, 1, 1), (O,), (O,).
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        X (B, Cin, H, W).

    Outputs:
        F, as of :func:`maam_int8`.
    """

    def __init__(self, step, branches, g_scale, weight, bias, f_scale, impl: str = "auto") -> None:
        super().__init__(OP, impl)
        self.kernels = tuple(int(branch[0].shape[2]) for branch in branches)
        _int8.parameters_of(self, step=np.asarray(step, np.float32))
        for i, (w, b) in enumerate(branches):
            _int8.parameters_of(self, **{f"weight{i}": _int8.pack_conv(w), f"bias{i}": b.astype(np.int32)})
        _int8.parameters_of(
            self,
            g_scale=g_scale.astype(np.float32),
            weight=_int8.pack_conv(weight),
            bias=bias.astype(np.int32),
            f_scale=f_scale.astype(np.float32),
        )
        self._branches = tuple((getattr(self, f"weight{i}"), getattr(self, f"bias{i}")) for i in range(len(branches)))

    def construct(self, x):
        path = _select.path(OP, self.impl, self.automatic, x.shape, None)
        return maam_int8(
            x, self.step, self._branches, self.g_scale, self.weight, self.bias, self.f_scale,
            kernels=self.kernels, impl=path,
        )  # fmt: skip

    def extend_repr(self) -> str:
        return f"kernels={self.kernels}, impl={self.impl}"


def _shapes(branches):
    shapes = []
    for branch in branches:
        shapes.append((branch[0].shape, branch[1].shape))
    return shapes


@constexpr
def _check(x, dtype, step, branches, kernels, g_scale, weight, f_scale) -> bool:
    """Raise unless the operands fit each other and the operator."""
    _int8.check_images(OP, x, dtype, step)
    _int8.check_branches(OP, len(branches), kernels)
    for i in range(len(branches)):
        _int8.check_packed(OP, f"branch {i}", branches[i][0], g_scale[0], (x[1] or -1) * kernels[i] ** 2)
    _int8.check_packed(OP, "weight", weight, f_scale[0], g_scale[0])
    return True


@constexpr
def _sizes(kernels):
    """How the kernel sizes reach the operator."""
    return Tensor(list(kernels), ms.int32)


def _native_op(count):
    branches = [f"{name}{i}" for i in range(count) for name in ("weight", "bias")]
    return _native.custom_op(
        "MaamInt8", ["x", "step", "kernels", *branches, "g_scale", "weight", "bias", "f_scale"], ["f"]
    )


# By number of branches. Built on import: the graph compiler cannot call a cache.
_NATIVE = tuple(
    _native_op(count) if count >= MIN_BRANCHES and _native.missing_reason(_SYMBOLS) is None else None
    for count in range(MAX_BRANCHES + 1)
)

_select.register(OP, _SYMBOLS)
