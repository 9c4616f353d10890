"""The multi-agent module without its reduction, images to G: Eq. 1 and 9 of the MAAM paper (arXiv 2504.13574).

    A_i = maxpool2x2(ReLU(BatchNorm_i(conv_i(X)))),  G = sum_i softmax(alpha)_i A_i

One operator in evaluation, and one each for the forward and backward of a training step, which keeps a byte for each
element of the A_i. With a single branch G is that branch; with a constant alpha it is a fixed average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from maam_ops import _branch, _native, _norms, _select, aggregate
from maam_ops._cell import FusedCell, names_kept
from maam_ops._check import MAX_BRANCHES, check_operands, each
from maam_ops._maam_native import (
    PARAMETERS,
    STATISTICS,
    agent_of,
    branch_gradients,
    chosen,
    constants_of,
    names_of,
    why_not_training,
    wide,
)
from maam_ops._pool import is_empty, pooled_nothing

OP = "maam_mix"
COMPOSITION = "composition"
_SYMBOLS = ("MaamMix", "MaamMixTraining", "MaamMixBackward", "MaamMixInputGradient")


def reference(
    x: Tensor,
    alpha: Tensor,
    branches: Sequence[Sequence[Tensor]],
    *,
    training: bool = False,
    momentum: float | Sequence[float] = 0.9,
    eps: float | Sequence[float] = 1e-5,
):
    """The definition in pure MindSpore ops; arguments and results as :func:`maam_mix`.

    Computes in float32 and rounds G, as the kernels do.
    """
    check_operands(OP, 1, x, alpha, branches, (), training)
    count = len(branches)
    eps, momentum = each(OP, "eps", eps, count), each(OP, "momentum", momentum, count)
    weights = ops.softmax(alpha.astype(ms.float32).reshape(-1), 0)
    g = None
    statistics = ()
    for i in range(count):
        agent, new = agent_of(x.astype(ms.float32), branches[i], eps[i], training, momentum[i])
        g = weights[i] * agent if i == 0 else g + weights[i] * agent
        statistics = statistics + new
    g = g.astype(x.dtype)
    return (g, statistics) if training else g


def maam_mix(
    x: Tensor,
    alpha: Tensor,
    branches: Sequence[Sequence[Tensor]],
    *,
    training: bool = False,
    momentum: float | Sequence[float] = 0.9,
    eps: float | Sequence[float] = 1e-5,
    impl: str = "auto",
):
    """The module up to its mix. In training the normalisations take the statistics of the batch.

    Without ``training`` there is a gradient too, for which the branches are computed anew by single operators.

    Args:
        x: images (B, Cin, H, W), H and W at least 2; float32, float16 or bfloat16 (computed in float32).
        alpha: N elements in any shape.
        branches: for each of N branches (1 to 8) its convolution's weight (C, Cin, k, k), k of 1, 3, 5 or 7, stride 1,
            zero padding that keeps the size, no bias; and its normalisation's gamma, beta, moving_mean and
            moving_variance, (C,) each.
        training: native training needs Cin k k <= 147.
        momentum: weight of the old running statistics: one number, or one a branch.
        eps: added to the variances; as momentum.
        impl: "auto", "native" or "reference".

    Returns:
        G (B, C, H // 2, W // 2), of x's dtype; in training G and the new running mean and variance of each branch, a
        flat tuple of 2 N.

    Raises:
        ValueError: shapes that do not fit, an empty batch in training, eps or momentum out of range, or an unknown
            ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    check_operands(OP, 1, x, alpha, branches, (), training)
    eps, momentum = each(OP, "eps", eps, len(branches)), each(OP, "momentum", momentum, len(branches))
    if chosen(OP, impl, x.shape, training, [branch[0].shape for branch in branches]) == "native":
        return _run_native(x, alpha, branches, training, momentum, eps)
    return reference(x, alpha, branches, training=training, momentum=momentum, eps=eps)


class FusedMix(FusedCell):
    """Branches and their weighted sum as one operator, in evaluation and in training.

    All Parameter objects are kept. So are their names, unless several have the same, until the Cell becomes an
    attribute: see ``maam_ops.names_kept``.

    Branches that the operator does not cover, or of which some are frozen (``bn.set_train(False)``), run as they are,
    and are then summed up; ``maam_ops.explain`` says so and why.

    Args:
        branches: N Cells, 1 to 8. To become one operator each must be an ``nn.SequentialCell`` of ``nn.Conv2d``,
            ``nn.BatchNorm2d``, ``nn.ReLU`` and ``nn.MaxPool2d(2, 2)``.
        alpha: the Parameter of N elements that they are mixed by, or None for their mean.
        impl: implementation, fixed for the life of the Cell; "native" raises RuntimeError where the operator does not
            cover the branches.

    Inputs:
        X (B, Cin, H, W).

    Outputs:
        G (B, C, H // 2, W // 2). In training the running statistics are updated.

    Raises:
        ValueError: the number of branches, or of elements of alpha; when called, shapes that do not fit, or an empty
            batch in training.
        TypeError: when called, any type of X but float32, float16 and bfloat16, if the operator covers the branches.
    """

    def __init__(self, branches: Sequence[nn.Cell], alpha: Parameter | None = None, impl: str = "auto") -> None:
        super().__init__(OP, impl)
        count = len(branches)
        if not 1 <= count <= MAX_BRANCHES:
            raise ValueError(f"maam_ops.FusedMix: branches: got {count}, expected 1 to {MAX_BRANCHES}")
        if alpha is not None and alpha.size != count:
            raise ValueError(f"maam_ops.FusedMix: alpha: got {alpha.size} elements, expected {count}, one a branch")
        with names_kept(*branches):
            self.branches = nn.CellList(list(branches), auto_prefix=False)
        if alpha is None:
            self.alpha = Tensor([0.0] * count, ms.float32)  # no Parameter: nothing is learned, nothing is stored
        else:
            self.adopt("alpha", alpha)
        self.tell_names_apart()
        reason = _why_not_fused(branches)
        self._fusible, self._trains = reason is None, False
        if self._fusible:
            # Plain tuples: mixed precision replaces the normalisations in `branches` by Cells around them.
            self._blocks = tuple(tuple(branch) for branch in branches)
            self._norms = tuple(branch[1] for branch in branches)
            self._eps = each("FusedMix", "eps", [bn.eps for bn in self._norms], count)
            # nn.BatchNorm2d keeps the weight of the new value.
            self._momentum = tuple(1 - branch[1].momentum for branch in branches)
        if self.impl == _select.NATIVE:
            self._decide(reason, asked_for=_select.is_explicit(impl))
        self.begin(branches[0].training)

    def _decide(self, reason: str | None, *, asked_for: bool) -> None:
        """Refine the operator's choice by what the branches allow."""
        if reason is None:
            convs = [branch[0] for branch in self.branches]
            training = why_not_training(convs[0].in_channels, [conv.kernel_size[0] for conv in convs])
            self._trains = training is None
            if training is not None:
                note = f"{self.choice.reason}; training composes the branches: {training}"
                self.choice = replace(self.choice, reason=note)
            return
        if asked_for:
            raise RuntimeError(
                f"maam_ops.FusedMix: impl=native: not available: {reason}. Use impl='auto' to run the branches as they "
                "are"
            )
        others = {**self.choice.others, _select.NATIVE: reason}
        self.choice = _select.Choice(OP, COMPOSITION, "branches as they are, then their sum", others)
        self.impl = COMPOSITION

    def construct(self, x):
        if not self._fusible:
            return self._compose(x)
        statistics = _norms.statistics_of(self._norms)
        training = statistics != _norms.RUNNING
        operands = [_branch.operands_of(block) for block in self._blocks]
        check_operands("FusedMix", 1, x, self.alpha, operands, (), training)
        native = _select.path(OP, self.impl, self.automatic, x.shape, training) == "native"
        if native and statistics != _norms.MIXED and (self._trains or not training):
            result = _run_native(x, self.alpha, operands, training, self._momentum, self._eps)
            return self._keep_statistics(*result) if training else result
        if is_empty(x.shape):
            return pooled_nothing(x, operands[0][0].shape[0])
        # As the kernels do, in the weights' type, and rounded once to that of x.
        return self._compose(x.astype(operands[0][0].dtype)).astype(x.dtype)

    def _compose(self, x):
        agents = []
        for branch in self.branches:
            agents.append(branch(x))
        return aggregate.reference(self.alpha, *agents) if len(agents) > 1 else agents[0]

    def _keep_statistics(self, g, statistics):
        i = 0
        for bn in self._norms:
            ops.assign(bn.moving_mean, statistics[i])
            ops.assign(bn.moving_variance, statistics[i + 1])
            i += 2
        return g

    def extend_repr(self) -> str:
        return f"impl={self.impl}"


def _why_not_fused(branches: Sequence[nn.Cell]) -> str | None:
    """Why these branches are not the operator's, or None where they are."""
    for i, branch in enumerate(branches):
        if _branch.convolutions_of(branch) != 1:
            return (
                f"branch {i} is {_branch.kinds_of(branch)}, not a SequentialCell of Conv2d, BatchNorm2d, ReLU and "
                "MaxPool2d"
            )
        conv, bn, _, pool = branch
        reason = _branch.why_not_conv(conv, bn, branches[0][0].out_channels) or _branch.why_not_pool(pool)
        if reason is not None:
            return f"branch {i} {reason}"
    inputs = [branch[0].in_channels for branch in branches]
    if len(set(inputs)) > 1:
        return f"the branches differ in their number of input channels: {inputs}"
    return None


def _run_native(x, alpha, branches, training, momentum, eps):
    operands = []
    for branch in branches:
        for tensor in branch:
            operands.append(wide(tensor))
    count = len(branches)
    if training:
        result = _TRAINING[count](wide(x), constants_of(eps, momentum), wide(alpha), *operands)
        g = result[0]
        return (g if g.dtype == x.dtype else g.astype(x.dtype)), result[3:]
    g = _INFERENCE[count](wide(x), constants_of(eps), wide(alpha), *operands)
    return g if g.dtype == x.dtype else g.astype(x.dtype)


def _inference_gradients(x, eps, alpha, branches, dg):
    """The gradients in the order of the operator's inputs. The branches are computed anew, by their definition."""
    values = ops.split(eps, 1)
    weights = ops.softmax(alpha.reshape(-1), 0)
    dx = ops.zeros_like(x)
    gradients = ()
    dots = ()
    for i in range(len(branches)):
        by = values[i].astype(ms.float32)
        agent = agent_of(x, branches[i], by)[0]
        dots = (*dots, (agent * dg).sum().reshape(1))
        by_x, by_operands = branch_gradients(x, branches[i], by, agent, weights[i] * dg)
        dx = dx + by_x
        gradients = gradients + by_operands
    dots = ops.concat(dots)
    dalpha = weights * (dots - (weights * dots).sum())
    return (dx, ops.zeros_like(eps), dalpha.reshape(alpha.shape), *gradients)


def _training_gradients(backward, input_gradient, arguments, out, dg):
    """The gradients in the order of the operator's inputs; zeros for constants and statistics, which are buffers."""
    x, constants, alpha = arguments[:3]
    groups = arguments[3:]
    count = len(groups) // 5
    parameters = ()
    for i in range(count):
        parameters = parameters + groups[5 * i : 5 * i + 3]
    grads = backward(x, constants, alpha, *parameters, out[1], out[2], dg)
    by_norm = ()
    for i in range(count):
        by_norm = by_norm + grads[3 * i + 2 : 3 * i + 4]
    # An operator of its own, that a graph drops where nobody asks for dX.
    dx = input_gradient(x, constants, alpha, *parameters, out[1], out[2], dg, *by_norm)
    result = (dx, ops.zeros_like(constants), grads[0])
    for i in range(count):
        none = ops.zeros_like(groups[5 * i + 1])
        result = result + grads[3 * i + 1 : 3 * i + 4] + (none, none)
    return result


def _native_ops(count):
    """The inference and the training operator for this many branches."""
    first = ["x", "constants", "alpha"]
    groups = [names_of(PARAMETERS + STATISTICS, [part]) for part in range(count)]
    arguments = [*first, *(name for group in groups for name in group)]
    packed = "".join(f"({', '.join(group)}), " for group in groups)
    bprop = _native.bprop_of(
        arguments, f"gradients(x, constants, alpha, ({packed}), dout)", gradients=_inference_gradients
    )
    inference = _native.custom_op("MaamMix", arguments, ["g"], bprop)
    parameters = names_of(PARAMETERS, range(count))
    saved = ["moments", "pixel"]
    backward = _native.custom_op(
        "MaamMixBackward", [*first, *parameters, *saved, "dg"], [f"d{name}" for name in ("alpha", *parameters)]
    )
    input_gradient = _native.custom_op(
        "MaamMixInputGradient",
        [*first, *parameters, *saved, "dg", *names_of(("dgamma", "dbeta"), range(count))],
        ["dx"],
    )
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, input_gradient, ({', '.join(arguments)}), out, dout[0])",
        gradients=_training_gradients,
        backward=backward,
        input_gradient=input_gradient,
    )
    new = names_of(("new_mean", "new_variance"), range(count))
    return inference, _native.custom_op("MaamMixTraining", arguments, ["g", *saved, *new], bprop)


# By number of branches, inference and training. Built on import: the graph compiler cannot call a cache.
_INFERENCE, _TRAINING = zip(
    *(
        _native_ops(count) if count and _native.missing_reason(_SYMBOLS) is None else (None, None)
        for count in range(MAX_BRANCHES + 1)
    ),
    strict=True,
)

_select.register(OP, _SYMBOLS)
