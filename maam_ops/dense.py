"""Dense layer on this package's own kernel, Eq. 4 to 8 of the MAAM paper (arXiv 2504.13574).

y = x W^T + b, or max(y, 0)

The runtime's own matrix product is capped at AVX2 while its convolutions are rescued (``maam_ops.runtime``); these
kernels, forward and backward, are not, and stream W from memory once for a batch of up to 64. They read and write
float16 and bfloat16 themselves, and compute in float32.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _native, _select
from maam_ops._cell import FusedCell, require_exactly
from maam_ops._check import check_dense, is_single
from maam_ops._tensors import require_tensor

OP = "dense"
_SYMBOLS = ("DenseForward", "DenseInputGradient", "DenseParameterGradients")


def reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """The definition in pure MindSpore ops; arguments and result as :func:`dense`.

    Computes in float32 and rounds y, as the kernel does.
    """
    check_dense(OP, x.shape, x.dtype, weight.shape, () if bias is None else bias.shape)
    dtype, x = x.dtype, x.astype(ms.float32)
    y = ops.matmul(_rows(x, weight), ops.transpose(weight.astype(ms.float32), (1, 0)))
    if bias is not None:
        y = y + bias.astype(ms.float32)
    return (ops.relu(y) if relu else y).astype(dtype)


def dense(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False, impl: str = "auto") -> Tensor:
    """x W^T + b, and ReLU where asked for.

    Args:
        x: (..., K), or (B, ...) of more than two dimensions with K elements a row, which are flattened; float32,
            float16 or bfloat16 (computed in float32).
        weight: (O, K), as ``nn.Dense`` keeps it, of any of these types.
        bias: (O,), or None.
        relu: whether max(y, 0) is returned.
        impl: "auto", "native" or "reference".

    Returns:
        y (..., O), or (B, O) where x was flattened, of x's dtype.

    Raises:
        ValueError: shapes that do not fit, or an unknown ``impl``.
        TypeError: dtype of x, or operands that are no Tensors.
        RuntimeError: the implementation asked for is not available here.
    """
    require_tensor(OP, "x", x)
    require_tensor(OP, "weight", weight)
    if bias is not None:
        require_tensor(OP, "bias", bias)
    check_dense(OP, x.shape, x.dtype, weight.shape, () if bias is None else bias.shape)
    if _select.chosen(OP, impl, x.shape, None, weight.shape) == "native":
        return _run_native(x, weight, bias, relu)
    return reference(x, weight, bias, relu=relu)


class FusedDense(FusedCell):
    """Dense layer with an optional ReLU as one operator.

    Args:
        in_channels: K.
        out_channels: O.
        has_bias: whether there is a b.
        relu: whether ReLU follows.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        x (..., K), or (B, ...) with K elements a row.

    Outputs:
        y (..., O) or (B, O), of x's dtype.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, has_bias: bool = True, relu: bool = False, impl: str = "auto"
    ) -> None:
        super().__init__(OP, impl)
        self._adopt_dense(nn.Dense(in_channels, out_channels, has_bias=has_bias), relu)

    @classmethod
    def from_cell(cls, layer: nn.Dense, *, relu: bool = False, impl: str = "auto") -> FusedDense:
        """The fused form of ``layer(x)``, or of ``relu(layer(x))``.

        The Parameter objects are kept; their names too, until the result becomes an attribute: see
        ``maam_ops.names_kept``.

        Raises:
            TypeError: the layer is no ``nn.Dense``, or of a subclass.
            ValueError: the layer has an activation other than ReLU.
        """
        require_exactly("FusedDense", "layer", layer, nn.Dense)
        if layer.activation is not None and type(layer.activation) is not nn.ReLU:
            raise ValueError(
                f"maam_ops.FusedDense: layer: got activation {type(layer.activation).__name__}, expected ReLU or none"
            )
        cell = cls(1, 1, impl=impl)
        cell._adopt_dense(layer, relu or layer.activation is not None)
        cell.set_train(layer.training)
        return cell

    def _adopt_dense(self, layer: nn.Dense, relu: bool) -> None:
        self.adopt("weight", layer.weight)
        if layer.has_bias:
            self.adopt("bias", layer.bias)
        else:
            self._params.pop("bias", None)  # a Parameter of value None would keep the Cell from compiling
            self.bias = None
        self.in_channels, self.out_channels, self.relu = layer.in_channels, layer.out_channels, relu

    def construct(self, x):
        weight = (self.out_channels, self.in_channels)
        impl = _select.path(OP, self.impl, self.automatic, x.shape, None, weight)
        return dense(x, self.weight, self.bias, relu=self.relu, impl=impl)

    def extend_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, has_bias={self.bias is not None}, "
            f"relu={self.relu}, impl={self.impl}"
        )


@constexpr
def _flag(relu):
    """How the choice reaches the kernel."""
    return Tensor([float(relu)], ms.float32)


def _run_native(x, weight, bias, relu):
    parameters = [weight] if bias is None else [weight, bias]
    read = [tensor if is_single(tensor.dtype) else tensor.astype(ms.float32) for tensor in parameters]
    return _NATIVE[(2 if relu else 0) + len(read) - 1](_flag(relu), x, *read)


def _rows(x, weight):
    """x with a last dimension of K."""
    return x if x.ndim < 3 or x.shape[-1] == weight.shape[1] else _reshaped(x, (x.shape[0], -1))


def _reshaped(tensor, shape):
    """MindSpore has no Reshape of bfloat16 on CPU; as float32 nothing is lost."""
    if tensor.dtype == ms.bfloat16:
        return tensor.astype(ms.float32).reshape(shape).astype(ms.bfloat16)
    return tensor.reshape(shape)


def _as(tensor, dtype):
    return tensor if tensor.dtype == dtype else tensor.astype(dtype)


def _parameter_gradients(x, weight, saved):
    """dW and db in W's dtype. Beside half data, a float32 weight's gradient must not pass through theirs."""
    x = _rows(x, weight)
    if weight.dtype == ms.float32:
        wide = [_as(tensor, ms.float32) for tensor in (x, *saved)]
        return _PARAMETER_GRADIENTS[len(saved) - 1](*wide)
    dweight, dbias = _PARAMETER_GRADIENTS[len(saved) - 1](x, *saved)
    return _as(dweight, weight.dtype), _as(dbias, weight.dtype)


def _input_gradient(x, weight, saved):
    dx = _INPUT_GRADIENT[len(saved) - 1](weight, *saved)
    return dx if x.ndim < 3 or x.shape[-1] == weight.shape[1] else _reshaped(dx, x.shape)


def _bprop(flag, x, weight, out, dout):
    dweight, _ = _parameter_gradients(x, weight, (dout,))
    return ops.zeros_like(flag), _input_gradient(x, weight, (dout,)), dweight


def _bias_bprop(flag, x, weight, bias, out, dout):
    dweight, dbias = _parameter_gradients(x, weight, (dout,))
    return ops.zeros_like(flag), _input_gradient(x, weight, (dout,)), dweight, _as(dbias, bias.dtype)


def _relu_bprop(flag, x, weight, out, dout):
    dweight, _ = _parameter_gradients(x, weight, (dout, out))
    return ops.zeros_like(flag), _input_gradient(x, weight, (dout, out)), dweight


def _bias_relu_bprop(flag, x, weight, bias, out, dout):
    dweight, dbias = _parameter_gradients(x, weight, (dout, out))
    return ops.zeros_like(flag), _input_gradient(x, weight, (dout, out)), dweight, _as(dbias, bias.dtype)


_NATIVE = ()
# Two operators, so that a graph which needs no dx, as for the first layer of a net, does not compute it. Each without
# and with y, whose zeros are ReLU's.
_INPUT_GRADIENT = ()
_PARAMETER_GRADIENTS = ()
if _native.missing_reason(_SYMBOLS) is None:
    _INPUT_GRADIENT = tuple(_native.custom_op("DenseInputGradient", ["weight", "dy", *y], ["dx"]) for y in ([], ["y"]))
    _PARAMETER_GRADIENTS = tuple(
        _native.custom_op("DenseParameterGradients", ["x", "dy", *y], ["dweight", "dbias"]) for y in ([], ["y"])
    )
    _NATIVE = tuple(
        _native.custom_op("DenseForward", ["relu", "x", "weight", *bias], ["y"], bprop)
        for bias, bprop in (
            ([], _bprop),
            (["bias"], _bias_bprop),
            ([], _relu_bprop),
            (["bias"], _bias_relu_bprop),
        )
    )

_select.register(OP, _SYMBOLS)
