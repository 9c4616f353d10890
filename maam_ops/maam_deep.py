"""The whole module, images to F, with two convolutions a branch, in inference: Eq. 1, 9 and 3 of arXiv 2504.13574.

    A_i = maxpool2x2(ReLU(BatchNorm(conv3x3(ReLU(BatchNorm(conv_i(X)))))))
    G   = sum_i softmax(alpha)_i A_i,  F = ReLU(BatchNorm(conv1x1(G)))

One operator: a strip of an image goes through all of it in the cache. The 3x3 convolution is computed by Winograd's
F(4x4, 3x3), a quarter of the multiplications at about twice the rounding error. :class:`maam_ops.FusedMAAM` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter, MaxPoolGrad

from maam_ops import _native, _select, agent_block, aggregate_reduce
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES, check_operands, each, is_single
from maam_ops._maam_native import constants_of, wide
from maam_ops._pool import pool

OP = "maam_deep"
_SYMBOLS = ("MaamDeepInference", "AggregateReduceInferenceBackward")


def reference(
    x: Tensor,
    alpha: Tensor,
    branches: Sequence[Sequence[Tensor]],
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    *,
    eps: float | Sequence[float] = 1e-5,
) -> Tensor:
    """The definition in pure MindSpore ops; arguments and result as :func:`maam_deep`.

    Computes in float32 and rounds F, as the kernel does.
    """
    check_operands(OP, 2, x, alpha, branches, (weight, gamma, beta, moving_mean, moving_variance), False)
    eps = each(OP, "eps", eps, 2 * len(branches) + 1)
    agents = []
    for i in range(len(branches)):
        middle = _layer(x.astype(ms.float32), branches[i][:5], eps[2 * i])
        agents.append(pool(_layer(middle, branches[i][5:], eps[2 * i + 1])))
    f = aggregate_reduce.reference(
        alpha,
        agents,
        weight.astype(ms.float32),
        gamma,
        beta,
        moving_mean,
        moving_variance,
        training=False,
        eps=eps[2 * len(branches)],
    )
    return f.astype(x.dtype)


def maam_deep(
    x: Tensor,
    alpha: Tensor,
    branches: Sequence[Sequence[Tensor]],
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    *,
    eps: float | Sequence[float] = 1e-5,
    impl: str = "auto",
) -> Tensor:
    """The whole module in inference: normalisations by their running statistics.

    There is a gradient, for which the branches are computed anew by single operators.

    Args:
        x: images (B, Cin, H, W), H and W at least 2; float32, float16 or bfloat16 (computed in float32).
        alpha: N elements in any shape.
        branches: for each of N branches (2 to 8) ten tensors: weight (M, Cin, k, k), k of 1, 3, 5 or 7, gamma, beta,
            moving_mean and moving_variance (M,) of the first convolution; weight (C, M, 3, 3) and four vectors (C,) of
            the second. Stride 1, zero padding that keeps the size, no bias.
        weight: (O, C, 1, 1).
        gamma, beta, moving_mean, moving_variance: (O,).
        eps: added to the variances: one number, or 2 N + 1, in the order of the convolutions.
        impl: "auto", "native" or "reference".

    Returns:
        F (B, O, H // 2, W // 2), of x's dtype.

    Raises:
        ValueError: shapes that do not fit, eps out of range, or an unknown ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    last = (weight, gamma, beta, moving_mean, moving_variance)
    check_operands(OP, 2, x, alpha, branches, last, False)
    eps = each(OP, "eps", eps, 2 * len(branches) + 1)
    if _select.chosen(OP, impl, x.shape, False) == "native":
        return run_native(x, alpha, branches, last, eps)
    return reference(x, alpha, branches, *last, eps=eps)


def why_not_fused(branches: Sequence[nn.Cell], channels: int) -> str | None:
    """Why these branches, each of two convolutions, cannot be the operator's, or None where they can."""
    for i, branch in enumerate(branches):
        reason = agent_block.why_not_block(branch, branches[0][0].out_channels, channels)
        if reason is not None:
            return f"branch {i} {reason}"
    inputs = [branch[0].in_channels for branch in branches]
    if len(set(inputs)) > 1:
        return f"the branches differ in their number of input channels: {inputs}"
    return None


def run_native(x, alpha, branches, last, eps):
    """F from the operator; arguments as :func:`maam_deep`, with eps of each normalisation."""
    operands = []
    for group in (*branches, last):
        for i in range(len(group)):
            # Convolution weights stand first of each five; the kernel reads half ones, and half images, itself.
            half = i % 5 == 0 and is_single(group[i].dtype)
            operands.append(group[i] if half else wide(group[i]))
    return _NATIVE[len(branches)](x, constants_of(eps), wide(alpha), *operands)


def _layer(x, operands, eps):
    """ReLU(BatchNorm(conv(x))) by its definition."""
    column = (1, -1, 1, 1)
    weight, gamma, beta, mean, variance = [tensor.astype(ms.float32) for tensor in operands]
    # Buffers: as in the kernel, no gradient passes through them.
    mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
    z = ops.conv2d(x, weight, pad_mode="same")
    scale = gamma * ops.rsqrt(variance + eps)
    return ops.relu((z - mean.reshape(column)) * scale.reshape(column) + beta.reshape(column))


def _layer_gradients(x, operands, eps, y, dy):
    """dX and the gradients of weight, gamma and beta of y = _layer(x); zeros for the statistics, which are buffers."""
    weight, gamma, _, mean, variance = operands
    column = (1, -1, 1, 1)
    rstd = ops.rsqrt(variance + eps)
    normal = (ops.conv2d(x, weight, pad_mode="same") - mean.reshape(column)) * rstd.reshape(column)
    dy = dy * (y > 0)
    dz = dy * (gamma * rstd).reshape(column)
    channels, kernel = weight.shape[0], weight.shape[2]
    dx = ops.Conv2DBackpropInput(channels, kernel, pad_mode="same")(dz, weight, x.shape)
    dweight = Conv2DBackpropFilter(channels, kernel, pad_mode="same")(dz, x, weight.shape)
    none = ops.zeros_like(gamma)
    return dx, (dweight, (dy * normal).sum((0, 2, 3)), dy.sum((0, 2, 3)), none, none)


def _gradients(backward, x, eps, alpha, branches, last, df):
    """The gradients in the order of the operator's inputs. The branches are computed anew, by their definition."""
    dtypes = (x.dtype, last[0].dtype)
    halves = tuple((branch[0].dtype, branch[5].dtype) for branch in branches)
    x, df = wide(x), wide(df)
    branches = tuple((wide(branch[0]), *branch[1:5], wide(branch[5]), *branch[6:]) for branch in branches)
    last = (wide(last[0]), *last[1:])
    values = [value.astype(ms.float32) for value in ops.split(eps, 1)]
    middles = []
    tops = []
    agents = []
    for i in range(len(branches)):
        middle = _layer(x, branches[i][:5], values[2 * i])
        top = _layer(middle, branches[i][5:], values[2 * i + 1])
        middles.append(middle)
        tops.append(top)
        agents.append(pool(top))
    last_eps = eps[2 * len(branches)].reshape(1)
    tail = backward(alpha, ops.concat((last_eps, last_eps)), *last, df, *agents)
    dx = ops.zeros_like(x)
    gradients = ()
    for i in range(len(branches)):
        first, second = branches[i][:5], branches[i][5:]
        dtop = MaxPoolGrad(2, 2, "valid")(tops[i], agents[i], tail[4 + i])
        dmiddle, by_second = _layer_gradients(middles[i], second, values[2 * i + 1], tops[i], dtop)
        by_x, by_first = _layer_gradients(x, first, values[2 * i], middles[i], dmiddle)
        dx = dx + by_x
        first_weight, second_weight = by_first[0].astype(halves[i][0]), by_second[0].astype(halves[i][1])
        gradients = (*gradients, first_weight, *by_first[1:], second_weight, *by_second[1:])
    none = ops.zeros_like(last[1])
    dlast = tail[1].astype(dtypes[1])
    return (dx.astype(dtypes[0]), ops.zeros_like(eps), tail[0], *gradients, dlast, tail[2], tail[3], none, none)


def _names(group):
    return [f"{name}{group}" for name in ("weight", "gamma", "beta", "mean", "variance")]


def _native_op(count):
    groups = [_names(f"{k}a") + _names(f"{k}b") for k in range(count)]
    last = _names("_last")
    arguments = ["x", "eps", "alpha", *(name for group in groups for name in group), *last]
    packed = ", ".join(f"({', '.join(group)})" for group in groups)
    agents = [f"a{k}" for k in range(count)]
    backward = _native.custom_op(
        "AggregateReduceInferenceBackward",
        ["alpha", "constants", *_names(""), "df", *agents],
        ["dalpha", "dweight", "dgamma", "dbeta", *(f"d{name}" for name in agents)],
    )
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, x, eps, alpha, ({packed}), ({', '.join(last)}), dout)",
        gradients=_gradients,
        backward=backward,
    )
    return _native.custom_op("MaamDeepInference", arguments, ["f"], bprop)


# By number of branches. Built on import: the graph compiler cannot call a cache.
_NATIVE = tuple(
    _native_op(count) if count >= MIN_BRANCHES and _native.missing_reason(_SYMBOLS) is None else None
    for count in range(MAX_BRANCHES + 1)
)

_select.register(OP, _SYMBOLS)
