"""1x1 convolution, batch normalisation and ReLU in one operator, Eq. 3 of the MAAM paper (arXiv 2504.13574).

    Z = W G,  F = ReLU(gamma (Z - mean) / sqrt(var + eps) + beta)

Training normalises by the statistics of the batch and returns updated running ones, exactly as ``nn.BatchNorm2d``.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _native, _norms, _select
from maam_ops._cell import FusedCell, require_exactly
from maam_ops._check import check_reduce, each, shape_of, shapes_of
from maam_ops.ascend import reduce_akg

OP = "reduce"
_SYMBOLS = ("ReduceInference", "ReduceTraining", "ReduceBackward", "ReduceInferenceBackward")


def reference(
    g: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    *,
    training: bool,
    momentum: float = 0.9,
    eps: float = 1e-5,
):
    """The definition in pure MindSpore ops; arguments and results as :func:`reduce`.

    Computes in float32 (float64 for float64 data) and rounds F, as the kernels do.
    """
    shapes = shapes_of((weight, gamma, beta, moving_mean, moving_variance))
    check_reduce(OP, shape_of(OP, "g", g), g.dtype, shapes, training)
    momentum, eps = each(OP, "momentum", momentum, 1)[0], each(OP, "eps", eps, 1)[0]
    return _compose(
        _normalise, g, weight, gamma, beta, moving_mean, moving_variance, training=training, momentum=momentum, eps=eps
    )


def _compose(normalise, g, weight, gamma, beta, moving_mean, moving_variance, *, training, momentum, eps):
    """The operator from MindSpore ops, around an implementation of its elementwise end."""
    wide = ms.float64 if g.dtype == ms.float64 else ms.float32
    # Buffers, old and new: as in the kernels, no gradient passes through them.
    moving_mean, moving_variance = ops.stop_gradient(moving_mean), ops.stop_gradient(moving_variance)
    z = _conv1x1(g.astype(wide), weight.astype(wide))
    if not training:
        mean, variance = moving_mean.astype(wide), moving_variance.astype(wide)
        return normalise(z, mean, variance, gamma.astype(wide), beta.astype(wide), eps).astype(g.dtype)
    mean = z.mean((0, 2, 3))
    centred = z - mean.reshape((1, -1, 1, 1))
    variance = (centred * centred).mean((0, 2, 3))
    f = normalise(z, mean, variance, gamma.astype(wide), beta.astype(wide), eps).astype(g.dtype)
    count = g.shape[0] * g.shape[2] * g.shape[3]
    old, new = _scalar(momentum, wide), _scalar(1 - momentum, wide)
    unbiased = variance * _scalar(count / (count - 1), wide)
    new_mean = old * moving_mean.astype(wide) + new * mean
    new_variance = old * moving_variance.astype(wide) + new * unbiased
    new_mean, new_variance = ops.stop_gradient(new_mean), ops.stop_gradient(new_variance)
    return f, new_mean.astype(moving_mean.dtype), new_variance.astype(moving_variance.dtype)


def reduce(
    g: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    *,
    training: bool,
    momentum: float = 0.9,
    eps: float = 1e-5,
    impl: str = "auto",
):
    """ReLU(BatchNorm(conv1x1(g))).

    Args:
        g: (B, C, H, W), one of float32, float16, bfloat16, float64.
        weight: (O, C, 1, 1) or (O, C).
        gamma, beta, moving_mean, moving_variance: (O,); float32, or float64 for float64 data (anything else is cast).
            The running statistics, given or returned, take no gradient.
        training: normalise by the statistics of this batch, and update the running ones.
        momentum: weight of the old running statistics, as the argument of ``nn.BatchNorm2d``.
        eps: added to the variance.
        impl: "auto", "native", "reference" or another of ``maam_ops.info()``.

    Returns:
        F (B, O, H, W) of g's dtype; in training (F, new_moving_mean, new_moving_variance), where the running variance
        takes in the unbiased variance of the batch.

    Raises:
        ValueError: shapes that do not fit; training with a single element per channel, whose variance is undefined
            (``nn.BatchNorm2d`` would silently put NaN into ``moving_variance``); eps or momentum out of range.
        TypeError: dtype of g.
        RuntimeError: the implementation asked for is not available here.
    """
    shapes = shapes_of((weight, gamma, beta, moving_mean, moving_variance))
    check_reduce(OP, shape_of(OP, "g", g), g.dtype, shapes, training)
    momentum, eps = each(OP, "momentum", momentum, 1)[0], each(OP, "eps", eps, 1)[0]
    chosen = _select.chosen(OP, impl, g.shape, training)
    if chosen == "native":
        return _run_native(g, weight, gamma, beta, moving_mean, moving_variance, training, momentum, eps)
    if chosen == "akg":
        return _compose(
            _normalise_akg,
            g,
            weight,
            gamma,
            beta,
            moving_mean,
            moving_variance,
            training=training,
            momentum=momentum,
            eps=eps,
        )
    return reference(
        g, weight, gamma, beta, moving_mean, moving_variance, training=training, momentum=momentum, eps=eps
    )


class BatchNormReduce(FusedCell):
    """The parameters of a 1x1 convolution and a batch normalisation, shared by the Cells that fuse them.

    There is no ``nn.BatchNorm2d`` in them: to freeze the normalisation call ``set_train(False)`` on the Cell.
    """

    use_batch_statistics = None  # as of nn.BatchNorm2d: the training flag decides

    def _adopt_reduce(self, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
        """Take over the Parameter objects of the two Cells."""
        owner = type(self).__name__
        check_conv(owner, conv)
        check_bn(owner, bn, conv.out_channels)
        for attribute, parameter in (
            ("weight", conv.weight),
            ("moving_mean", bn.moving_mean),
            ("moving_variance", bn.moving_variance),
            ("gamma", bn.gamma),
            ("beta", bn.beta),
        ):
            self.adopt(attribute, parameter)
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.eps, self.momentum = each(owner, "eps", bn.eps, 1)[0], 1.0 - float(bn.momentum)

    def _keep_statistics(self, f, new_mean, new_variance):
        ops.assign(self.moving_mean, new_mean)
        ops.assign(self.moving_variance, new_variance)
        return f


class FusedReduce(BatchNormReduce):
    """1x1 convolution without bias, batch normalisation and ReLU as one operator.

    It holds no ``nn.BatchNorm2d``: to freeze the normalisation in a net that trains, call ``set_train(False)`` on it.

    Args:
        in_channels: C.
        out_channels: O.
        eps, momentum: as for ``nn.BatchNorm2d``.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        G (B, C, H, W).

    Outputs:
        F (B, O, H, W). In training the running statistics are updated.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, eps: float = 1e-5, momentum: float = 0.9, impl: str = "auto"
    ) -> None:
        super().__init__(OP, impl)
        self._adopt_reduce(
            nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum)
        )

    @classmethod
    def from_cells(cls, conv: nn.Conv2d, bn: nn.BatchNorm2d, impl: str = "auto") -> FusedReduce:
        """The fused form of ``ReLU(bn(conv(g)))``.

        The Parameter objects are kept; their names too, until the result becomes an attribute: see
        ``maam_ops.names_kept``.

        Raises:
            TypeError: the Cells are others, or of a subclass.
            ValueError: the convolution or the normalisation is not that of the operator.
        """
        cell = cls(1, 1, impl=impl)
        cell._adopt_reduce(conv, bn)
        cell.set_train(bn.training)
        return cell

    def construct(self, g):
        shape, training = shape_of("FusedReduce", "g", g), _norms.by_batch(self)
        result = reduce(
            g,
            self.weight,
            self.gamma,
            self.beta,
            self.moving_mean,
            self.moving_variance,
            training=training,
            momentum=self.momentum,
            eps=self.eps,
            impl=_select.path(OP, self.impl, self.automatic, shape, training),
        )
        if training:
            return self._keep_statistics(result[0], result[1], result[2])
        return result

    def extend_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, eps={self.eps}, "
            f"momentum={self.momentum}, impl={self.impl}"
        )


def check_conv(owner: str, conv: nn.Conv2d) -> None:
    """Raise TypeError or ValueError unless the convolution is the 1x1 one the operator computes."""
    require_exactly(owner, "conv", conv, nn.Conv2d)
    for what, got, expected in (
        ("kernel_size", tuple(conv.kernel_size), (1, 1)),
        ("stride", tuple(conv.stride), (1, 1)),
        ("group", conv.group, 1),
        ("has_bias", conv.has_bias, False),
        ("padding", conv.padding, 0),
    ):
        if got != expected:
            raise ValueError(f"maam_ops.{owner}: conv: got {what} {got}, expected {expected}")


def check_bn(owner: str, bn: nn.BatchNorm2d, channels: int) -> None:
    """Raise TypeError or ValueError unless the normalisation is the plain one over the convolution's channels."""
    require_exactly(owner, "bn", bn, nn.BatchNorm2d)
    if bn.num_features != channels:
        raise ValueError(f"maam_ops.{owner}: bn: got {bn.num_features} features, expected {channels} as conv gives")
    if bn.use_batch_statistics is not None:
        raise ValueError(
            f"maam_ops.{owner}: bn: got use_batch_statistics={bn.use_batch_statistics}, expected None "
            "(batch statistics in training, running ones in evaluation)"
        )


def _normalise(z, mean, variance, gamma, beta, eps):
    column = (1, -1, 1, 1)
    scale = gamma * ops.rsqrt(variance + _scalar(eps, variance.dtype))
    return ops.relu((z - mean.reshape(column)) * scale.reshape(column) + beta.reshape(column))


def _normalise_akg(z, mean, variance, gamma, beta, eps):
    return reduce_akg.normalise_relu(z, mean, gamma * ops.rsqrt(variance + eps), beta)


def _conv1x1(g, weight):
    channels = weight.shape[1]
    if g.dtype == ms.float64:  # there is no float64 Conv2D on CPU
        batch, _, height, width = g.shape
        pixels = ops.transpose(g, (0, 2, 3, 1)).reshape((-1, channels))
        z = ops.matmul(pixels, ops.transpose(weight.reshape((-1, channels)), (1, 0)))
        return ops.transpose(z.reshape((batch, height, width, -1)), (0, 3, 1, 2))
    return ops.conv2d(g, weight.reshape((-1, channels, 1, 1)))


@constexpr
def _scalar(value, dtype):
    """A number as a tensor: MindSpore would round a Python float to float32, beside float64 data too."""
    return Tensor(value, dtype)


@constexpr
def batch_norm_constants(eps, momentum):
    """eps and momentum as the small float64 tensor in which they reach the kernels."""
    return Tensor([eps, momentum], ms.float64)


def as_parameters(wide, *tensors):
    """The tensors in the dtype the kernels want beside the data: float32, or float64 for float64 data."""
    return tuple([tensor if tensor.dtype == wide else tensor.astype(wide) for tensor in tensors])


def kernel_weight(weight, dtype):
    """The weight in a dtype the kernels take: that of the data, or float32 beside half data."""
    return weight if weight.dtype in (dtype, ms.float32) and dtype != ms.float64 else weight.astype(dtype)


def _run_native(g, weight, gamma, beta, moving_mean, moving_variance, training, momentum, eps):
    wide = ms.float64 if g.dtype == ms.float64 else ms.float32
    vectors = as_parameters(wide, gamma, beta, moving_mean, moving_variance)
    weight = kernel_weight(weight, g.dtype)
    constants = batch_norm_constants(eps, momentum)
    if training:
        result = _TRAINING(constants, weight, *vectors, g)
        return result[0], result[4].astype(moving_mean.dtype), result[5].astype(moving_variance.dtype)
    return _INFERENCE(constants, weight, *vectors, g)


# The running statistics and the constants are buffers: nothing asks for their gradient, so zeros stand in for it.
def _inference_bprop(constants, weight, gamma, beta, moving_mean, moving_variance, g, out, dout):
    grads = _INFERENCE_BACKWARD(constants, weight, gamma, beta, moving_mean, moving_variance, g, dout)
    none = ops.zeros_like(gamma)
    return ops.zeros_like(constants), grads[1], grads[2], grads[3], none, none, grads[0]


def _training_bprop(constants, weight, gamma, beta, moving_mean, moving_variance, g, out, dout):
    grads = _BACKWARD(weight, gamma, beta, out[2], out[3], g, out[1], dout[0])
    none = ops.zeros_like(gamma)
    return ops.zeros_like(constants), grads[1], grads[2], grads[3], none, none, grads[0]


_INPUTS = ["constants", "weight", "gamma", "beta", "moving_mean", "moving_variance", "g"]
_GRADIENTS = ["dg", "dweight", "dgamma", "dbeta"]
_INFERENCE = _TRAINING = _INFERENCE_BACKWARD = _BACKWARD = None
if _native.missing_reason(_SYMBOLS) is None:
    _INFERENCE_BACKWARD = _native.custom_op("ReduceInferenceBackward", [*_INPUTS, "df"], _GRADIENTS)
    _BACKWARD = _native.custom_op(
        "ReduceBackward", ["weight", "gamma", "beta", "mean", "rstd", "g", "z", "df"], _GRADIENTS
    )
    _INFERENCE = _native.custom_op("ReduceInference", _INPUTS, ["f"], _inference_bprop)
    _TRAINING = _native.custom_op(
        "ReduceTraining", _INPUTS, ["f", "z", "mean", "rstd", "new_mean", "new_variance"], _training_bprop
    )

_select.register(
    OP,
    _SYMBOLS,
    _select.Implementation("akg", "AKG kernel after the convolution", reduce_akg.available, automatic=False),
)
