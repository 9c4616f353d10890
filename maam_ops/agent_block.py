"""One branch of two convolutions, Eq. 1 of the MAAM paper (arXiv 2504.13574), in training.

    a = ReLU(BatchNorm(conv_k(X))),  A = maxpool2x2(ReLU(BatchNorm(conv3x3(a))))

One operator forward and one backward. The 3x3 convolution and its gradients are computed by Winograd's F(4x4, 3x3), a
quarter of the multiplications at about twice the rounding error; of what lies between X and A only the result of the
3x3 convolution is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _branch, _native, _norms, _select
from maam_ops._cell import FusedCell, names_kept
from maam_ops._check import check_agent_block, each, shape_of, shapes_of
from maam_ops._maam_native import wide
from maam_ops._pool import is_empty, pool, pooled_nothing

OP = "agent_block"
_SYMBOLS = ("AgentBlockForward", "AgentBlockBackward", "AgentBlockInputGradient")
_COLUMN = (1, -1, 1, 1)


def reference(
    x: Tensor,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    *,
    momentum: float | Sequence[float] = 0.9,
    eps: float | Sequence[float] = 1e-5,
):
    """The definition in pure MindSpore ops; arguments and results as :func:`agent_block`.

    Computes in float32 and rounds A, as the kernels do.
    """
    check_agent_block(OP, shape_of(OP, "x", x), x.dtype, shapes_of(first), shapes_of(second))
    momentum, eps = each(OP, "momentum", momentum, 2), each(OP, "eps", eps, 2)
    a, mean1, variance1 = _layer(x.astype(ms.float32), first, momentum[0], eps[0])
    y, mean2, variance2 = _layer(a, second, momentum[1], eps[1])
    return pool(y).astype(x.dtype), mean1, variance1, mean2, variance2


def agent_block(
    x: Tensor,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    *,
    momentum: float | Sequence[float] = 0.9,
    eps: float | Sequence[float] = 1e-5,
    impl: str = "auto",
):
    """A branch in training: normalisations by the statistics of the batch.

    Args:
        x: images (B, Cin, H, W), H and W at least 2; float32, float16 or bfloat16 (computed in float32).
        first: weight (M, Cin, k, k), k of 1, 3, 5 or 7, and gamma, beta, moving_mean, moving_variance, (M,) each, of
            the first convolution. Both have stride 1, zero padding that keeps the size, and no bias.
        second: weight (C, M, 3, 3) and four vectors (C,) of the second.
        momentum: weight of the old running statistics: one number, or one for each normalisation.
        eps: added to the variances; as momentum.
        impl: "auto", "native" or "reference".

    Returns:
        A (B, C, H // 2, W // 2), of x's dtype, and the new running mean and variance of the first and of the second
        normalisation.

    Raises:
        ValueError: shapes that do not fit, an empty batch, eps or momentum out of range, or an unknown ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    check_agent_block(OP, shape_of(OP, "x", x), x.dtype, shapes_of(first), shapes_of(second))
    momentum, eps = each(OP, "momentum", momentum, 2), each(OP, "eps", eps, 2)
    if _select.chosen(OP, impl, x.shape, True) == "native":
        return _run_native(x, first, second, momentum, eps)
    return reference(x, first, second, momentum=momentum, eps=eps)


class FusedAgentBlock(FusedCell):
    """A branch whose training is one operator forward and one backward; in evaluation its layers run as they are.

    So do they where a normalisation is frozen (``bn.set_train(False)``). Parameters stay those of the branch.

    Args:
        block: an ``nn.SequentialCell`` of twice ``nn.Conv2d``, ``nn.BatchNorm2d``, ``nn.ReLU``, then
            ``nn.MaxPool2d(2, 2)``; convolutions without bias that keep the size, the second of size 3x3.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        X (B, Cin, H, W).

    Outputs:
        A (B, C, H // 2, W // 2). In training the running statistics are updated.

    Raises:
        ValueError: the block is another; when called, shapes that do not fit, or an empty batch in training.
        TypeError: when called, any type of X but float32, float16 and bfloat16.
    """

    def __init__(self, block: nn.Cell, impl: str = "auto") -> None:
        super().__init__(OP, impl)
        reason = why_not_block(block)
        if reason is not None:
            raise ValueError(f"maam_ops.FusedAgentBlock: block {reason}")
        each("FusedAgentBlock", "eps", [block[1].eps, block[4].eps], 2)
        with names_kept(block):
            self.block = block
        # Plain tuples: mixed precision replaces the normalisations in the block by Cells around them.
        self._layers = tuple(block)
        self._norms = _branch.normalisations_of(block)
        self.begin(block.training)

    def construct(self, x):
        statistics = _norms.statistics_of(self._norms)
        first, second = operands_of(self._layers)
        training = statistics != _norms.RUNNING
        shape = shape_of("FusedAgentBlock", "x", x)
        check_agent_block("FusedAgentBlock", shape, x.dtype, shapes_of(first), shapes_of(second), training)
        native = _select.path(OP, self.impl, self.automatic, x.shape, True) == "native"
        if native and statistics == _norms.BATCH:
            return train_cells(x, self._layers)
        if is_empty(x.shape):
            return pooled_nothing(x, second[0].shape[0])
        # As the kernels do, in the weights' type, and rounded once to that of x.
        return self.block(x.astype(first[0].dtype)).astype(x.dtype)

    def extend_repr(self) -> str:
        return f"impl={self.impl}"


def why_not_block(block: nn.Cell, middle: int | None = None, channels: int | None = None) -> str | None:
    """Why a branch is not covered, or None where it is.

    ``middle`` and ``channels``: what the convolutions must have as outputs, if that is given.
    """
    if _branch.convolutions_of(block) != 2:
        return f"is {_branch.kinds_of(block)}, not a SequentialCell of twice Conv2d, BatchNorm2d, ReLU, then MaxPool2d"
    first, first_bn, _, second, second_bn, _, pool = block
    reason = (
        _branch.why_not_conv(first, first_bn, middle or first.out_channels)
        or _branch.why_not_conv(second, second_bn, channels or second.out_channels, (3,))
        or _branch.why_not_pool(pool)
    )
    if reason is None and second.in_channels != first.out_channels:
        reason = f"has {first.out_channels} channels behind its first convolution, not {second.in_channels}"
    return reason


def operands_of(block):
    """The parameters of the two convolutions of a branch, a tuple of its Cells."""
    operands = _branch.operands_of(block)
    return operands[:5], operands[5:]


def train_cells(x, block):
    """A of a branch, a tuple of its Cells, by the native operator; its running statistics are updated."""
    first, second = operands_of(block)
    # nn.BatchNorm2d keeps the weight of the new value.
    momentum = (1 - block[1].momentum, 1 - block[4].momentum)
    result = _run_native(x, first, second, momentum, (block[1].eps, block[4].eps))
    ops.assign(first[3], result[1])
    ops.assign(first[4], result[2])
    ops.assign(second[3], result[3])
    ops.assign(second[4], result[4])
    return result[0]


@constexpr
def _constants(momentum, eps):
    """As the small float64 tensor in which they reach the kernels."""
    return Tensor([*eps, *momentum], ms.float64)


def _layer(x, operands, momentum, eps):
    """ReLU(BatchNorm(conv(x))) and the new running statistics."""
    weight, gamma, beta, old_mean, old_variance = [tensor.astype(ms.float32) for tensor in operands]
    z = ops.conv2d(x, weight, pad_mode="same")
    elements = z.shape[0] * z.shape[2] * z.shape[3]
    mean = z.mean((0, 2, 3))
    centred = z - mean.reshape(_COLUMN)
    variance = ops.square(centred).mean((0, 2, 3))
    normal = centred * ops.rsqrt(variance + eps).reshape(_COLUMN)
    y = ops.relu(normal * gamma.reshape(_COLUMN) + beta.reshape(_COLUMN))
    new_mean = momentum * old_mean + (1 - momentum) * mean
    new_variance = momentum * old_variance + (1 - momentum) * variance * (elements / (elements - 1))
    return y, new_mean, new_variance


def _run_native(x, first, second, momentum, eps):
    operands = []
    for tensor in (*first, *second):
        operands.append(wide(tensor))
    result = _FORWARD(wide(x), _constants(momentum, eps), *operands)
    a = result[0] if x.dtype == ms.float32 else result[0].astype(x.dtype)
    return a, result[6], result[7], result[8], result[9]


def _gradients(backward, input_gradient, x, constants, first, second, out, da):
    """The gradients in the order of the operator's inputs; zeros for constants and statistics, which are buffers."""
    inputs = (x, constants, *first[:3], *second[:3], *out[1:6], da)
    grads = backward(*inputs)
    # An operator of its own, that a graph drops where nobody asks for dX.
    dx = input_gradient(*inputs, grads[1], grads[2], grads[4], grads[5])
    none1, none2 = ops.zeros_like(first[1]), ops.zeros_like(second[1])
    return (
        *(dx, ops.zeros_like(constants)),
        *(grads[0], grads[1], grads[2], none1, none1),
        *(grads[3], grads[4], grads[5], none2, none2),
    )


def _native_op():
    parameters = [[f"{name}{k}" for name in ("weight", "gamma", "beta")] for k in (1, 2)]
    statistics = [[f"{name}{k}" for name in ("mean", "variance")] for k in (1, 2)]
    saved = ["z", "pooled", "statistics1", "statistics2", "moments"]
    inputs = ["x", "constants", *parameters[0], *parameters[1], *saved, "da"]
    gradients = [f"d{name}" for group in parameters for name in group]
    backward = _native.custom_op("AgentBlockBackward", inputs, gradients)
    norms = [name for name in gradients if "weight" not in name]
    input_gradient = _native.custom_op("AgentBlockInputGradient", [*inputs, *norms], ["dx"])
    groups = [parameters[k] + statistics[k] for k in (0, 1)]
    arguments = ["x", "constants", *groups[0], *groups[1]]
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, input_gradient, x, constants, ({', '.join(groups[0])}), ({', '.join(groups[1])}), out, "
        "dout[0])",
        gradients=_gradients,
        backward=backward,
        input_gradient=input_gradient,
    )
    new = [f"new_{name}" for group in statistics for name in group]
    return _native.custom_op("AgentBlockForward", arguments, ["a", *saved, *new], bprop)


_FORWARD = _native_op() if _native.missing_reason(_SYMBOLS) is None else None

_select.register(OP, _SYMBOLS)
