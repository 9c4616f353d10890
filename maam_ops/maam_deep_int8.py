"""The whole module on bytes with two convolutions a branch, images to F, Eq. 1, 9 and 3 of arXiv 2504.13574, inference.

    q   = round(min(max(X / step + zero, 0), 127))
    m_i = min(round(max(conv_i(q) + a_i, 0) scale_i), 127)          q = zero around the image
    z_i = maxpool2x2(conv3x3(m_i)) + b_i
    G   = min(round(sum_i max(z_i, 0) scale_g), 127)
    F   = min(round(max(conv1x1(G) + b, 0) scale_f), 127)           bytes, channels last

as :mod:`maam_ops.maam_int8`. The kernel computes the 3x3 convolution by Winograd's F(4x4, 3x3) in whole numbers, which
is exact, so that native and reference give the same bits. There is no gradient.
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

OP = "maam_deep_int8"
_SYMBOLS = ("MaamDeepInt8",)
FREQUENCIES = 36
# Sums of more channels between the convolutions would not come back from the transforms (csrc/maam_deep_int8).
MAX_MIDDLE = (2**25 - 1) // (9 * _int8.MAX_ACTIVATION * _int8.MAX_WEIGHT)
_POINTS = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])  # G'


def pack_second(weight: np.ndarray) -> np.ndarray:
    """Whole numbers (C, M, 3, 3) as the kernel reads them: G' g G'^T, two channels of 16 bits in each int32,
    (blocks of 16 outputs, 36, pairs of channels, 16), zeros where there is none.
    """
    outputs, middle = weight.shape[:2]
    padded = np.zeros((_int8.round_up(outputs, _int8.BLOCK), _int8.round_up(middle, _int8.QUAD), FREQUENCIES), np.int64)
    padded[:outputs, :middle] = (_POINTS @ weight @ _POINTS.T).reshape(outputs, middle, FREQUENCIES)
    pairs = padded.reshape(-1, _int8.BLOCK, padded.shape[1] // 2, 2, FREQUENCIES).transpose(0, 4, 2, 1, 3)
    low, high = pairs[..., 0], pairs[..., 1]
    return ((high << 16) | (low & 0xFFFF)).astype(np.int32)


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
    """The definition in pure MindSpore ops; arguments and result as :func:`maam_deep_int8`."""
    _check(x.shape, x.dtype, step.shape, _shapes(branches), kernels, g_scale.shape, weight.shape, f_scale.shape)
    q = ops.transpose(_int8.quantise(x.astype(ms.float32), step).astype(ms.float64), (0, 2, 3, 1))
    zero = step[1].astype(ms.float64)
    total = 0.0
    for i in range(len(branches)):
        first, first_bias, first_scale, second, second_bias = branches[i]
        middle = first_bias.shape[0]
        z = _int8.convolve(q, first, middle, kernels[i], zero) + first_bias.astype(ms.float64)
        # Packed second weights have a depth of whole quads of channels, and so have the bytes.
        m = _int8.requantise(z, first_scale).astype(ms.float64)
        y = _int8.convolve(m, _plain(second), second_bias.shape[0], 3, 0.0)
        total = total + ops.maximum(_int8.max_pool(y) + second_bias.astype(ms.float64), 0.0)
    g = _int8.requantise(total, g_scale)[:, :, :, : g_scale.shape[0]]
    return _int8.reduce(g.astype(ms.float64), weight, bias, f_scale)


def maam_deep_int8(
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
        x, step, g_scale, weight, bias, f_scale: as of :func:`maam_ops.functional.maam_int8`.
        branches: for each of N branches (2 to 8) the packed weight of its first convolution, a depth of k k Cin in the
            order row, column, input channel; its bias, int32 (M,); float32 (M,), from its sums to bytes; the second
            convolution's weight by ``maam_ops.maam_deep_int8.pack_second``; its bias, int32 (C,). M at most 231.
        kernels: k of each first convolution: 1, 3, 5 or 7; the second ones are 3 x 3.
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
        for tensor in branch:
            operands.append(tensor)
    return _NATIVE[len(branches)](wide, step, _sizes(kernels), *operands, g_scale, weight, bias, f_scale)


class MaamDeepInt8(FusedCell):
    """The module on bytes as a Cell; its parameters are int8, int32 and float32 and not trained.

    Args:
        step: (1 / step, zero).
        branches: for each branch whole numbers (M, Cin, k, k) and (M,), scales (M,), whole numbers (C, M, 3, 3), (C,).
        g_scale: (C,).
        weight, bias, f_scale: of the 1x1 convolution, (O, C, 1, 1), (O,), (O,).
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        X (B, Cin, H, W).

    Outputs:
        F, as of :func:`maam_deep_int8`.
    """

    def __init__(self, step, branches, g_scale, weight, bias, f_scale, impl: str = "auto") -> None:
        super().__init__(OP, impl)
        self.kernels = tuple(int(branch[0].shape[2]) for branch in branches)
        _int8.parameters_of(self, step=np.asarray(step, np.float32))
        taken = []
        for i, (first, first_bias, scale, second, second_bias) in enumerate(branches):
            arrays = {
                f"first_weight{i}": _int8.pack_conv(first),
                f"first_bias{i}": first_bias.astype(np.int32),
                f"first_scale{i}": scale.astype(np.float32),
                f"second_weight{i}": pack_second(second),
                f"second_bias{i}": second_bias.astype(np.int32),
            }
            _int8.parameters_of(self, **arrays)
            taken.append(tuple(getattr(self, name) for name in arrays))
        _int8.parameters_of(
            self,
            g_scale=g_scale.astype(np.float32),
            weight=_int8.pack_conv(weight),
            bias=bias.astype(np.int32),
            f_scale=f_scale.astype(np.float32),
        )
        self._branches = tuple(taken)

    def construct(self, x):
        path = _select.path(OP, self.impl, self.automatic, x.shape, None)
        return maam_deep_int8(
            x, self.step, self._branches, self.g_scale, self.weight, self.bias, self.f_scale,
            kernels=self.kernels, impl=path,
        )  # fmt: skip

    def extend_repr(self) -> str:
        return f"kernels={self.kernels}, impl={self.impl}"


def _plain(second):
    """The packed int8 form of a second weight: g is the inner values of G' g G'^T, which are sums and differences."""
    blocks, pairs = second.shape[0], second.shape[2]
    both = second.astype(ms.float64)
    high = ops.floor(both / 65536.0)
    low = both - 65536.0 * ops.floor((both + 32768.0) / 65536.0)
    u = ops.stack((low, high), 3).reshape(blocks, 6, 6, 2 * pairs, _int8.BLOCK)
    rows = (u[:, 0], (u[:, 1] - u[:, 2]) / 2.0, u[:, 5])
    taps = []
    for row in rows:
        taps.append(row[:, 0])
        taps.append((row[:, 1] - row[:, 2]) / 2.0)
        taps.append(row[:, 5])
    depth = ops.concat(taps, 1).reshape(blocks, 9 * pairs * 2 // _int8.QUAD, _int8.QUAD, _int8.BLOCK)
    return ops.transpose(depth, (0, 1, 3, 2))


def _shapes(branches):
    shapes = []
    for branch in branches:
        shapes.append((branch[0].shape, branch[1].shape, branch[3].shape))
    return shapes


@constexpr
def _check(x, dtype, step, branches, kernels, g_scale, weight, f_scale) -> bool:
    """Raise unless the operands fit each other and the operator."""
    _int8.check_images(OP, x, dtype, step)
    _int8.check_branches(OP, len(branches), kernels)
    middle, channels = branches[0][1][0], g_scale[0]
    if middle > MAX_MIDDLE:
        raise ValueError(
            f"maam_ops.{OP}: branches: got {middle} channels between the convolutions, expected at most {MAX_MIDDLE}"
        )
    second = (-(-channels // _int8.BLOCK), FREQUENCIES, -(-middle // _int8.QUAD) * 2, _int8.BLOCK)
    for i in range(len(branches)):
        _int8.check_packed(OP, f"branch {i}: first weight", branches[i][0], middle, (x[1] or -1) * kernels[i] ** 2)
        if tuple(branches[i][2]) != second:
            raise ValueError(
                f"maam_ops.{OP}: branch {i}: second weight: got shape {tuple(branches[i][2])}, expected {second}"
            )
    _int8.check_packed(OP, "weight", weight, f_scale[0], channels)
    return True


@constexpr
def _sizes(kernels):
    """How the kernel sizes reach the operator."""
    return Tensor(list(kernels), ms.int32)


def _native_op(count):
    names = ("first_weight", "first_bias", "first_scale", "second_weight", "second_bias")
    branches = [f"{name}{i}" for i in range(count) for name in names]
    return _native.custom_op(
        "MaamDeepInt8", ["x", "step", "kernels", *branches, "g_scale", "weight", "bias", "f_scale"], ["f"]
    )


# By number of branches. Built on import: the graph compiler cannot call a cache.
_NATIVE = tuple(
    _native_op(count) if count >= MIN_BRANCHES and _native.missing_reason(_SYMBOLS) is None else None
    for count in range(MAX_BRANCHES + 1)
)

_select.register(OP, _SYMBOLS)
