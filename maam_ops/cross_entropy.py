"""Mean softmax cross-entropy with integer labels, and its gradient, by one kernel.

    loss = mean_i [lse(x_i) - (1 - s) x_i[t_i] - s mean(x_i)]        lse: logarithm of the sum of exponentials
    d x_i = (softmax(x_i) - (1 - s) onehot(t_i) - s / K) / count

over the rows whose label is not ``ignore_index``; s is the label smoothing. Equal to ``ops.cross_entropy``, and for
s = 0 without ignored labels to ``nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")``.
"""

from __future__ import annotations

from numbers import Integral, Real

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _native, _select
from maam_ops._cell import FusedCell
from maam_ops._check import check_cross_entropy
from maam_ops._tensors import require_tensor

OP = "cross_entropy"
_SYMBOLS = ("CrossEntropy",)
_LEAST, _LARGEST = -(2**31), 2**31 - 1  # of the int32 in which labels reach the kernel
# What MindSpore lacks on CPU before: zeros and products in bfloat16, which the backward pass takes in PYNATIVE mode.
_BFLOAT16_GRADIENTS = tuple(int(part) for part in ms.__version__.split(".")[:2]) >= (2, 9)


def reference(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, ignore_index: int = -100) -> Tensor:
    """The definition in pure MindSpore ops; arguments and result as :func:`cross_entropy`.

    It cannot look at the labels before it runs: one that is neither a class nor ignored gives NaN, not an error.
    """
    label_smoothing, ignore_index = _options(OP, label_smoothing, ignore_index)
    check_cross_entropy(OP, logits.shape, logits.dtype, labels.shape, labels.dtype)
    wide = logits.astype(ms.float64 if logits.dtype == ms.float64 else ms.float32)
    shifted = wide - ops.stop_gradient(wide.max(-1, keepdims=True))
    log_softmax = shifted - ops.log(ops.exp(shifted).sum(-1, keepdims=True))
    classes = logits.shape[-1]
    labels = _in_32_bits(labels, ignore_index)
    one_hot = ops.equal(labels.expand_dims(-1), ops.arange(classes).astype(ms.int32)).astype(wide.dtype)
    # Products with 0 would make NaN of the logits -inf of masked classes.
    picked = ops.where(one_hot > 0, log_softmax, ops.zeros_like(log_softmax)).sum(-1)
    smoothing, _ = _constants(label_smoothing, ignore_index, logits.dtype == ms.float64)
    losses = -picked * (1 - smoothing)
    if label_smoothing > 0:
        losses = losses - log_softmax.mean(-1) * smoothing
    known = ops.logical_and(labels >= 0, labels < classes)
    losses = ops.where(known, losses, ops.full_like(losses, float("nan")))
    counted = labels != ignore_index
    losses = ops.where(counted, losses, ops.zeros_like(losses))
    return losses.sum() / counted.astype(wide.dtype).sum()


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    impl: str = "auto",
) -> Tensor:
    """Mean cross-entropy of ``logits`` against the classes ``labels``.

    The kernel computes loss and gradient together; what is left for the backward pass is a product with the incoming
    gradient. It can be differentiated once; a second derivative raises RuntimeError, the reference has it.

    Args:
        logits: (B, K); float32, float16, bfloat16 (both computed in float32) or float64. -inf is a class ruled out.
            MindSpore before 2.9 has bfloat16 cast to float32 before the kernel, and the gradient back.
        labels: (B,), int32 or int64, 0 to K - 1 or ``ignore_index``. Errors show one that does not fit 32 bits as the
            largest number that does.
        label_smoothing: weight s of the uniform distribution, 0 to 1.
        ignore_index: rows with this label count neither in the sum nor in its divisor; a whole number of 32 bits.
        impl: "auto", "native" or "reference".

    Returns:
        The loss, a scalar: float32, or float64 for float64 logits. NaN where no row counts (its gradient is 0).

    Raises:
        ValueError: shapes that do not fit, a smoothing outside [0, 1], an ``ignore_index`` beyond int32, or an unknown
            ``impl``.
        TypeError: dtypes; options that are no numbers.
        RuntimeError: a label that is neither a class nor ``ignore_index``, named with its row, when the kernel runs
            (``ops.cross_entropy`` counts negative ones from the end or says infinity, depending on form and mode); the
            implementation asked for is not available here.
    """
    require_tensor(OP, "logits", logits)
    require_tensor(OP, "labels", labels)
    label_smoothing, ignore_index = _options(OP, label_smoothing, ignore_index)
    check_cross_entropy(OP, logits.shape, logits.dtype, labels.shape, labels.dtype)
    if _select.chosen(OP, impl, logits.shape, None) == "native":
        return _run_native(logits, labels, label_smoothing, ignore_index)
    return reference(logits, labels, label_smoothing=label_smoothing, ignore_index=ignore_index)


class FusedCrossEntropy(FusedCell):
    """Mean softmax cross-entropy with integer labels as one operator.

    Args:
        label_smoothing, ignore_index: see :func:`cross_entropy`.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        logits (B, K) and labels (B,).

    Outputs:
        The loss, a scalar.

    Raises:
        TypeError, ValueError: options that :func:`cross_entropy` refuses.
    """

    def __init__(self, *, label_smoothing: float = 0.0, ignore_index: int = -100, impl: str = "auto") -> None:
        super().__init__(OP, impl)
        self.label_smoothing, self.ignore_index = _options("FusedCrossEntropy", label_smoothing, ignore_index)

    def construct(self, logits, labels):
        return cross_entropy(
            logits,
            labels,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            impl=_select.path(OP, self.impl, self.automatic, logits.shape, None),
        )

    def extend_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}, ignore_index={self.ignore_index}, impl={self.impl}"


@constexpr
def _options(op, label_smoothing, ignore_index):
    """The options as the numbers they are."""
    if not isinstance(label_smoothing, Real):
        raise TypeError(f"maam_ops.{op}: label_smoothing: got {label_smoothing!r}, expected a number, 0 to 1")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"maam_ops.{op}: label_smoothing: got {label_smoothing}, expected 0 to 1")
    if not isinstance(ignore_index, Integral):
        raise TypeError(f"maam_ops.{op}: ignore_index: got {ignore_index!r}, expected a whole number")
    if not _LEAST <= ignore_index <= _LARGEST:
        raise ValueError(
            f"maam_ops.{op}: ignore_index: got {ignore_index}, expected {_LEAST} to {_LARGEST}, as int32 has"
        )
    return float(label_smoothing), int(ignore_index)


@constexpr
def _no_label(ignore_index):
    """A number that is neither a class nor ignored."""
    return _LARGEST - (ignore_index == _LARGEST)


def _in_32_bits(labels, ignore_index):
    """Labels as int32. A cast alone would make a class of 2**32, or an ignored row."""
    if labels.dtype == ms.int32:
        return labels
    cast = labels.astype(ms.int32)
    return ops.select(ops.equal(cast.astype(ms.int64), labels), cast, ops.full_like(cast, _no_label(ignore_index)))


@constexpr
def _constants(label_smoothing, ignore_index, double):
    """How the options reach the kernel."""
    return Tensor([label_smoothing], ms.float64 if double else ms.float32), Tensor([ignore_index], ms.int32)


def _run_native(logits, labels, label_smoothing, ignore_index):
    smoothing, ignore = _constants(label_smoothing, ignore_index, logits.dtype == ms.float64)
    labels = _in_32_bits(labels, ignore_index)
    if logits.dtype == ms.bfloat16 and not _BFLOAT16_GRADIENTS:
        logits = logits.astype(ms.float32)
    return _NATIVE(smoothing, ignore, logits, labels)[0].reshape(())


def _refuse(_):
    raise RuntimeError(
        "maam_ops.cross_entropy: bprop of the gradient is not defined, the kernel can be differentiated once: use "
        "impl='reference' for a second derivative"
    )


# What the gradient depends on is in no graph, so that its own derivative would come out without it.
_once = ops.InsertGradientOf(_refuse)


def _bprop(smoothing, ignore, logits, labels, out, dout):
    gradient = _once(out[1]) * dout[0].astype(out[1].dtype)
    return ops.zeros_like(smoothing), ops.zeros_like(ignore), gradient, ops.zeros_like(labels)


_NATIVE = None
if _native.missing_reason(_SYMBOLS) is None:
    _NATIVE = _native.custom_op(
        "CrossEntropy", ["label_smoothing", "ignore_index", "logits", "labels"], ["loss", "gradient"], _bprop
    )

_select.register(OP, _SYMBOLS)
