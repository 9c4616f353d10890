"""A 3x3 convolution, its normalisation and ReLU, with a max-pool or a residual sum behind, as one operator.

    z = conv3x3(X),   A = ReLU(BatchNorm(z))   or   maxpool2x2(ReLU(BatchNorm(z)))   or   ReLU(BatchNorm(z)) + R

The convolution and both of its gradients are computed by Winograd's F(4x4, 3x3), a quarter of the multiplications at
about twice the rounding error. In evaluation the normalisation is folded into the weights, anew at each call.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter, MaxPoolGrad
from mindspore.ops.primitive import constexpr

from maam_ops import _branch, _native, _norms, _select
from maam_ops._cell import FusedCell, names_kept
from maam_ops._check import check_conv_block, each, shape_of, shapes_of
from maam_ops._maam_native import wide
from maam_ops._pool import is_empty, pooled_nothing
from maam_ops._pool import pool as max_pool

OP = "conv_block"
_SYMBOLS = ("ConvBlockInference", "ConvBlockForward", "ConvBlockBackward")
_COLUMN = (1, -1, 1, 1)


def reference(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    residual: Tensor | None = None,
    *,
    pool: bool = False,
    training: bool = False,
    momentum: float = 0.9,
    eps: float = 1e-5,
):
    """The definition in pure MindSpore ops; arguments and results as :func:`conv_block`.

    Computes in float32 and rounds A, as the kernels do.
    """
    operands = (weight, gamma, beta, moving_mean, moving_variance)
    check_conv_block(OP, shape_of(OP, "x", x), x.dtype, shapes_of(operands), _shape_of(residual), pool, training)
    momentum, eps = each(OP, "momentum", momentum, 1)[0], each(OP, "eps", eps, 1)[0]
    z = ops.conv2d(x.astype(ms.float32), weight.astype(ms.float32), pad_mode="same")
    gamma, beta, mean, variance = [t.astype(ms.float32) for t in (gamma, beta, moving_mean, moving_variance)]
    # Buffers, old and new: as in the kernels, no gradient passes through them.
    mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
    old_mean, old_variance = mean, variance
    if training:
        mean = z.mean((0, 2, 3))
        variance = ops.square(z - mean.reshape(_COLUMN)).mean((0, 2, 3))
    normal = (z - mean.reshape(_COLUMN)) * ops.rsqrt(variance + eps).reshape(_COLUMN)
    a = ops.relu(normal * gamma.reshape(_COLUMN) + beta.reshape(_COLUMN))
    if pool:
        a = max_pool(a)
    if residual is not None:
        a = a + residual.astype(ms.float32)
    a = a.astype(x.dtype)
    if not training:
        return a
    elements = z.shape[0] * z.shape[2] * z.shape[3]
    new_mean = momentum * old_mean + (1 - momentum) * mean
    new_variance = momentum * old_variance + (1 - momentum) * variance * (elements / (elements - 1))
    return a, ops.stop_gradient(new_mean), ops.stop_gradient(new_variance)


def conv_block(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    residual: Tensor | None = None,
    *,
    pool: bool = False,
    training: bool = False,
    momentum: float = 0.9,
    eps: float = 1e-5,
    impl: str = "auto",
):
    """A convolution block. In training the normalisation takes the statistics of the batch.

    Without ``training`` there is a gradient too, by single operators.

    Args:
        x: (B, Cin, H, W); float32, float16 or bfloat16 (computed in float32).
        weight: (C, Cin, 3, 3); stride 1, zero padding that keeps the size, no bias.
        gamma, beta, moving_mean, moving_variance: (C,). The running statistics, given or returned, take no gradient.
        residual: (B, C, H, W), added behind the ReLU; not together with ``pool``.
        pool: a 2x2 max-pool ends the block; H and W at least 2.
        training: normalise by the batch.
        momentum: weight of the old running statistics.
        eps: added to the variance.
        impl: "auto", "native" or "reference".

    Returns:
        A (B, C, H, W) or, with ``pool``, (B, C, H // 2, W // 2), of x's dtype; in training also the new running mean
        and variance.

    Raises:
        ValueError: shapes that do not fit, training with a single element a channel, eps or momentum out of range, or
            an unknown ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    operands = (weight, gamma, beta, moving_mean, moving_variance)
    check_conv_block(OP, shape_of(OP, "x", x), x.dtype, shapes_of(operands), _shape_of(residual), pool, training)
    momentum, eps = each(OP, "momentum", momentum, 1)[0], each(OP, "eps", eps, 1)[0]
    if _select.chosen(OP, impl, x.shape, training, weight.shape) == "native":
        return _run_native(x, operands, residual, pool, training, momentum, eps)
    return reference(x, *operands, residual, pool=pool, training=training, momentum=momentum, eps=eps)


class FusedConvBlock(FusedCell):
    """``ReLU(bn(conv(x)))`` as one operator, in evaluation and in training, with what follows it.

    By which statistics it normalises is bn's to say: ``bn.set_train(False)`` freezes it. The Parameters stay those of
    the Cells; their names too, until this Cell becomes an attribute: see ``maam_ops.names_kept``.

    Args:
        conv: an ``nn.Conv2d`` of size 3x3 with stride 1, without bias, that keeps the size.
        bn: its ``nn.BatchNorm2d``.
        pool: the ``nn.MaxPool2d(2, 2)`` behind the ReLU, if there is one.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        X (B, Cin, H, W), and for a block without pool perhaps a residual (B, C, H, W) that is added behind the ReLU.

    Outputs:
        A (B, C, H, W), or (B, C, H // 2, W // 2) with ``pool``. In training the running statistics are updated.

    Raises:
        ValueError: the Cells are others; when called, shapes that do not fit, or training with a single element a
            channel.
        TypeError: when called, any type of X but float32, float16 and bfloat16.
    """

    def __init__(
        self, conv: nn.Conv2d, bn: nn.BatchNorm2d, pool: nn.MaxPool2d | None = None, impl: str = "auto"
    ) -> None:
        super().__init__(OP, impl)
        reason = why_not_block(conv, bn, pool)
        if reason is not None:
            raise ValueError(f"maam_ops.FusedConvBlock: block {reason}")
        with names_kept(conv, bn):
            self.conv, self.bn = conv, bn
        self._norms = (bn,)
        self._pools = pool is not None
        self._eps = each("FusedConvBlock", "eps", bn.eps, 1)[0]
        self._momentum = 1 - float(bn.momentum)  # nn.BatchNorm2d keeps the new value's weight
        self.set_train(bn.training)

    def construct(self, x, residual=None):
        bn = self._norms[0]
        training = _norms.by_batch(bn)
        operands = (self.conv.weight, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
        shape, shapes, beside = shape_of("FusedConvBlock", "x", x), shapes_of(operands), _shape_of(residual)
        check_conv_block("FusedConvBlock", shape, x.dtype, shapes, beside, self._pools, training)
        if _select.path(OP, self.impl, self.automatic, x.shape, training, shapes[0]) != "native":
            return self._layer_by_layer(x, residual)
        result = _run_native(x, operands, residual, self._pools, training, self._momentum, self._eps)
        if not training:
            return result
        ops.assign(bn.moving_mean, result[1])
        ops.assign(bn.moving_variance, result[2])
        return result[0]

    def _layer_by_layer(self, x, residual):
        """As the kernels do, in the weights' type, and rounded once to that of x."""
        if self._pools and is_empty(x.shape):
            return pooled_nothing(x, self.conv.out_channels)
        a = ops.relu(self.bn(self.conv(x.astype(self.conv.weight.dtype))))
        a = max_pool(a) if self._pools else a
        a = a if residual is None else a + residual.astype(a.dtype)
        return a.astype(x.dtype)

    def extend_repr(self) -> str:
        channels = f"in_channels={self.conv.in_channels}, out_channels={self.conv.out_channels}"
        return f"{channels}, pool={self._pools}, impl={self.impl}"


def why_not_block(conv: nn.Cell, bn: nn.Cell, pool: nn.Cell | None = None) -> str | None:
    """Why these Cells are not covered, or None where they are."""
    if type(conv) is not nn.Conv2d or type(bn) is not nn.BatchNorm2d:
        return f"is {_branch.kinds_of(conv)} and {_branch.kinds_of(bn)}, not a Conv2d and a BatchNorm2d"
    reason = _branch.why_not_conv(conv, bn, conv.out_channels, (3,))
    if reason is not None or pool is None:
        return reason
    if type(pool) is not nn.MaxPool2d:
        return f"ends with {_branch.kinds_of(pool)}, not a MaxPool2d"
    return _branch.why_not_pool(pool)


@constexpr
def _constants(eps, momentum, pool):
    """As the small float64 tensor in which they reach the kernels; a third element says that there is a pool."""
    return Tensor([eps, momentum, 1.0] if pool else [eps, momentum], ms.float64)


def _shape_of(residual):
    return None if residual is None else residual.shape


def _run_native(x, operands, residual, pool, training, momentum, eps):
    read = (wide(x), _constants(eps, momentum, pool))
    for tensor in operands:
        read = (*read, wide(tensor))
    if training:
        result = _FORWARD(*read) if residual is None else _RESIDUAL_FORWARD(*read, wide(residual))
        return result[0].astype(x.dtype), result[4], result[5]
    a = _INFERENCE(*read) if residual is None else _RESIDUAL_INFERENCE(*read, wide(residual))
    return a.astype(x.dtype)


def _training_gradients(backward, x, constants, weight, gamma, beta, out, da):
    """The gradients in the order of the operator's inputs; zeros for constants and statistics, which are buffers."""
    dweight, dgamma, dbeta, dx = backward(x, constants, weight, gamma, beta, out[1], out[2], out[3], da)
    none = ops.zeros_like(gamma)
    return dx, ops.zeros_like(constants), dweight, dgamma, dbeta, none, none


def _inference_gradients(x, constants, weight, gamma, beta, mean, variance, a, da):
    """The same in evaluation. The convolution is computed anew, by its definition."""
    eps = ops.split(constants, 1)[0].astype(ms.float32)
    rstd = ops.rsqrt(variance + eps)
    normal = (ops.conv2d(x, weight, pad_mode="same") - mean.reshape(_COLUMN)) * rstd.reshape(_COLUMN)
    y = normal * gamma.reshape(_COLUMN) + beta.reshape(_COLUMN)
    if constants.shape[0] == 3:
        da = MaxPoolGrad(2, 2, "valid")(ops.relu(y), a, da)
    dy = da * (y > 0)
    dz = dy * (gamma * rstd).reshape(_COLUMN)
    channels = weight.shape[0]
    dx = ops.Conv2DBackpropInput(channels, 3, pad_mode="same")(dz, weight, x.shape)
    dweight = Conv2DBackpropFilter(channels, 3, pad_mode="same")(dz, x, weight.shape)
    none = ops.zeros_like(gamma)
    return dx, ops.zeros_like(constants), dweight, (dy * normal).sum((0, 2, 3)), dy.sum((0, 2, 3)), none, none


def _native_ops(residual):
    """The inference and the training operator, with a residual as their last operand or without."""
    block = ["x", "constants", "weight", "gamma", "beta"]
    moving = ["mean", "variance"]
    arguments = [*block, *moving, *["residual"] * residual]
    bprop = _native.bprop_of(
        arguments, f"gradients({', '.join(block + moving)}, out, dout){' + (dout,)' if residual else ''}",
        gradients=_inference_gradients,
    )  # fmt: skip
    inference = _native.custom_op("ConvBlockInference", arguments, ["a"], bprop)
    saved = ["z", "pooled", "statistics"]
    backward = _native.custom_op("ConvBlockBackward", [*block, *saved, "da"], ["dweight", "dgamma", "dbeta", "dx"])
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, {', '.join(block)}, out, dout[0]){' + (dout[0],)' if residual else ''}",
        gradients=_training_gradients,
        backward=backward,
    )
    new = ["new_mean", "new_variance"]
    return inference, _native.custom_op("ConvBlockForward", arguments, ["a", *saved, *new], bprop)


_INFERENCE, _FORWARD = _native_ops(False) if _native.missing_reason(_SYMBOLS) is None else (None, None)
_RESIDUAL_INFERENCE, _RESIDUAL_FORWARD = _native_ops(True) if _native.missing_reason(_SYMBOLS) is None else (None, None)

_select.register(OP, _SYMBOLS)
