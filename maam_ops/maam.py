"""The whole multi-agent module, images to F, Eq. 1, 9 and 3 of the MAAM paper (arXiv 2504.13574).

    A_i = maxpool2x2(ReLU(BatchNorm_i(conv_i(X)))),  G = sum_i softmax(alpha)_i A_i,  F = ReLU(BatchNorm(conv1x1(G)))

In evaluation this is one operator: a few rows of an image go through all of it in the cache, and neither the A_i nor G
are ever in memory. Training runs the branches as they are and fuses what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter, MaxPoolGrad
from mindspore.ops.primitive import constexpr

from maam_ops import _native, _select, aggregate, aggregate_reduce
from maam_ops._cell import FusedCell
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES, check_maam

OP = "maam"
COMPOSITION = "composition"
KERNEL_SIZES = (1, 3, 5, 7)
_SYMBOLS = ("MaamInference", "AggregateReduceInferenceBackward")
_POOL = ops.MaxPool(kernel_size=2, strides=2, pad_mode="valid")


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
    """The definition in pure MindSpore ops; arguments and result as :func:`maam`.

    Computes in float32 and rounds F, as the kernel does.
    """
    check_maam(OP, x.shape, x.dtype, alpha.shape, [branch[0].shape for branch in branches], weight.shape)
    eps = _all_eps(eps, len(branches))
    agents = []
    for i in range(len(branches)):
        agents.append(_agent(x.astype(ms.float32), branches[i], eps[i]))
    f = aggregate_reduce.reference(
        alpha,
        agents,
        weight.astype(ms.float32),
        gamma,
        beta,
        moving_mean,
        moving_variance,
        training=False,
        eps=eps[len(branches)],
    )
    return f.astype(x.dtype)


def maam(
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

    There is a gradient, for which the branches are computed anew; to train, :class:`FusedMAAM` is faster.

    Args:
        x: images (B, Cin, H, W), H and W at least 2; float32, float16 or bfloat16 (computed in float32).
        alpha: N elements in any shape.
        branches: for each of N branches (2 to 8) its convolution's weight (C, Cin, k, k), k of 1, 3, 5 or 7, stride 1,
            zero padding that keeps the size, no bias; and its normalisation's gamma, beta, moving_mean and
            moving_variance, (C,) each.
        weight: (O, C, 1, 1).
        gamma, beta, moving_mean, moving_variance: (O,).
        eps: added to the variances: one number, or N + 1, that of the last normalisation at the end.
        impl: "auto", "native" or "reference".

    Returns:
        F (B, O, H // 2, W // 2), of x's dtype.

    Raises:
        ValueError: shapes that do not fit, or an unknown ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    check_maam(OP, x.shape, x.dtype, alpha.shape, [branch[0].shape for branch in branches], weight.shape)
    if _chosen(impl) == "native":
        return _run_native(x, alpha, branches, (weight, gamma, beta, moving_mean, moving_variance), eps)
    return reference(x, alpha, branches, weight, gamma, beta, moving_mean, moving_variance, eps=eps)


class FusedMAAM(FusedCell):
    """The multi-agent module: in evaluation one operator, in training the branches and ``FusedAggregateReduce``.

    Branches that the operator does not cover, and float64 images, run as in training, by composition; ``choice`` and
    ``maam_ops.explain`` say so and why. Whatever is packed or folded is made anew at each call, so that loaded or
    trained weights count at once.

    Args:
        in_channels: Cin of the images.
        channels: C of each branch.
        out_channels: O.
        num_agents: number of branches, 2 to 8.
        kernel_size: of the branches' convolutions.
        eps, momentum: of all normalisations, as for ``nn.BatchNorm2d``.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        X (B, Cin, H, W).

    Outputs:
        F (B, O, H // 2, W // 2). In training the running statistics are updated.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        out_channels: int,
        *,
        num_agents: int = 3,
        kernel_size: int = 3,
        eps: float = 1e-5,
        momentum: float = 0.9,
        impl: str = "auto",
    ) -> None:
        super().__init__(OP, impl)
        branches = nn.CellList(
            [
                nn.SequentialCell(
                    nn.Conv2d(in_channels, channels, kernel_size),
                    nn.BatchNorm2d(channels, eps=eps, momentum=momentum),
                    nn.ReLU(),
                    nn.MaxPool2d(2, 2),
                )
                for _ in range(num_agents)
            ]
        )
        mix = aggregate_reduce.FusedAggregateReduce(
            num_agents, channels, out_channels, eps=eps, momentum=momentum, impl=impl
        )
        self._compose(branches, mix, impl)

    @classmethod
    def from_cells(
        cls,
        branches: Sequence[nn.Cell],
        alpha: Parameter | aggregate.FusedAgentAggregate,
        conv: nn.Conv2d,
        bn: nn.BatchNorm2d,
        impl: str = "auto",
    ) -> FusedMAAM:
        """The fused form of ``ReLU(bn(conv(mix([branch(x) for branch in branches]))))``.

        The Cells of the branches and all Parameter objects are kept, names included.

        Args:
            branches: N Cells. To become one operator each must be an ``nn.SequentialCell`` of exactly ``nn.Conv2d``,
                ``nn.BatchNorm2d``, ``nn.ReLU`` and ``nn.MaxPool2d(2, 2)``; any other Cell is called as it is.
            alpha: their learned weights, or the Cell that holds them.
            conv, bn: the 1x1 convolution without bias and its normalisation.
            impl: as for the class; "native" raises RuntimeError where the operator does not cover the branches.
        """
        cell = cls(1, 1, 1, num_agents=MIN_BRANCHES, impl=impl)
        names = [(parameter, parameter.name) for branch in branches for parameter in branch.get_parameters()]
        mix = aggregate_reduce.FusedAggregateReduce.from_cells(alpha, conv, bn, impl=impl)
        names += [(parameter, parameter.name) for parameter in mix.get_parameters()]
        if len(branches) != mix.num_agents:
            raise ValueError(
                f"maam_ops.FusedMAAM: branches: got {len(branches)}, expected {mix.num_agents} "
                "(one for each element of alpha)"
            )
        cell._compose(nn.CellList(list(branches), auto_prefix=False), mix, impl)
        for parameter, name in names:
            parameter.name = name
        cell.set_train(bn.training)
        return cell

    def _compose(self, branches: nn.CellList, mix: aggregate_reduce.FusedAggregateReduce, impl: str) -> None:
        """Take the parts, and decide how they run."""
        self.branches, self.mix = branches, mix
        reason = _why_not_fused(branches, mix)
        self._fusible = reason is None
        self._eps = (*(branch[1].eps for branch in branches), mix.eps) if self._fusible else ()
        choice = _select.choose(OP, impl)
        if choice.impl == _select.NATIVE:
            choice = _choice_of_cell(choice, reason, asked_for=_select.is_explicit(impl))
        self.choice, self.impl = choice, choice.impl

    def construct(self, x):
        if self.impl == "native" and self._fusible and not self.training and x.dtype != ms.float64:
            operands = []
            for branch in self.branches:
                conv, bn = branch[0], branch[1]
                operands.append((conv.weight, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance))
            mix = self.mix
            last = (mix.weight, mix.gamma, mix.beta, mix.moving_mean, mix.moving_variance)
            shapes = [operand[0].shape for operand in operands]
            check_maam("FusedMAAM", x.shape, x.dtype, mix.alpha.shape, shapes, mix.weight.shape)
            return _run_native(x, mix.alpha, operands, last, self._eps)
        agents = []
        for branch in self.branches:
            agents.append(branch(x))
        return self.mix(agents)

    def extend_repr(self) -> str:
        return f"impl={self.impl}"


def _why_not_fused(branches: Sequence[nn.Cell], mix: aggregate_reduce.FusedAggregateReduce) -> str | None:
    """Why these branches cannot be one operator with what follows, or None where they can."""
    for i, branch in enumerate(branches):
        reason = _why_not_branch(branch, mix.in_channels)
        if reason is not None:
            return f"branch {i} {reason}"
    inputs = [branch[0].in_channels for branch in branches]
    if len(set(inputs)) > 1:
        return f"the branches differ in their number of input channels: {inputs}"
    return None


def _why_not_branch(branch: nn.Cell, channels: int) -> str | None:
    layers = list(branch) if type(branch) is nn.SequentialCell else []
    if [type(layer) for layer in layers] != [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]:
        inside = f" of {', '.join(type(layer).__name__ for layer in layers)}" if layers else ""
        return f"is a {type(branch).__name__}{inside}, not a SequentialCell of Conv2d, BatchNorm2d, ReLU, MaxPool2d"
    conv, bn, _, pool = layers
    kernel = conv.kernel_size[0]
    keeps_size = conv.pad_mode == "same" or (
        conv.pad_mode == "pad" and conv.padding in (kernel // 2, (kernel // 2,) * 4)
    )
    for what, got, right, expected in (
        ("kernel_size", conv.kernel_size, conv.kernel_size in [(k, k) for k in KERNEL_SIZES], "1, 3, 5 or 7"),
        ("stride", conv.stride, conv.stride == (1, 1), "1"),
        ("dilation", conv.dilation, conv.dilation == (1, 1), "1"),
        ("group", conv.group, conv.group == 1, "1"),
        ("has_bias", conv.has_bias, not conv.has_bias, "False"),
        ("pad_mode and padding", (conv.pad_mode, conv.padding), keeps_size or kernel == 1, "what keeps the size"),
        ("out_channels", conv.out_channels, conv.out_channels == channels, str(channels)),
        ("num_features", bn.num_features, bn.num_features == channels, str(channels)),
        ("use_batch_statistics", bn.use_batch_statistics, bn.use_batch_statistics is None, "None"),
        ("pooling", (pool.kernel_size, pool.stride), (pool.kernel_size, pool.stride) == (2, 2), "2x2 with stride 2"),
        ("pad_mode of the pooling", pool.pad_mode, pool.pad_mode.lower() == "valid", "valid"),
        ("return_indices", pool.return_indices, not pool.return_indices, "False"),
    ):
        if not right:
            return f"has {what} {got}, not {expected}"
    return None


def _choice_of_cell(choice: _select.Choice, reason: str | None, *, asked_for: bool) -> _select.Choice:
    """The native choice of the operator, refined by what the parts of a Cell allow."""
    if reason is None:
        return replace(
            choice, reason=f"{choice.reason}; in evaluation. Training composes branches and aggregate_reduce"
        )
    if asked_for:
        raise RuntimeError(
            f"maam_ops.FusedMAAM: impl=native: not available: {reason}. Use impl='auto' to run the branches as they are"
        )
    others = {_select.NATIVE: reason, **{k: v for k, v in choice.others.items() if k != _select.NATIVE}}
    return _select.Choice(OP, COMPOSITION, "branches as they are, then aggregate_reduce", others)


def _agent(x, operands, eps):
    """One branch by its definition."""
    column = (1, -1, 1, 1)
    weight, gamma, beta, mean, variance = [tensor.astype(ms.float32) for tensor in operands]
    z = ops.conv2d(x, weight, pad_mode="same")
    scale = gamma * ops.rsqrt(variance + eps)
    return _POOL(ops.relu((z - mean.reshape(column)) * scale.reshape(column) + beta.reshape(column)))


@constexpr
def _chosen(impl):
    return _select.choose(OP, impl).impl


@constexpr
def _all_eps(eps, count):
    """eps of each branch and of the last normalisation."""
    values = (eps,) * (count + 1) if isinstance(eps, (int, float)) else tuple(eps)
    if len(values) != count + 1:
        raise ValueError(f"maam_ops.{OP}: eps: got {len(values)} values, expected one, or {count + 1}")
    return values


@constexpr
def _eps_tensor(eps, count):
    """As the small float64 tensor in which it reaches the kernel."""
    return Tensor(list(_all_eps(eps, count)), ms.float64)


def _run_native(x, alpha, branches, last, eps):
    operands = []
    for group in (*branches, last):
        for tensor in group:
            operands.append(tensor if tensor.dtype == ms.float32 else tensor.astype(ms.float32))
    wide = x if x.dtype == ms.float32 else x.astype(ms.float32)
    alpha = alpha if alpha.dtype == ms.float32 else alpha.astype(ms.float32)
    f = _NATIVE[len(branches)](wide, _eps_tensor(eps, len(branches)), alpha, *operands)
    return f if f.dtype == x.dtype else f.astype(x.dtype)


def _branch_gradients(x, operands, eps, agent, dagent):
    """dX and the gradients of one branch's weight, gamma and beta; zeros for its statistics, which are buffers."""
    weight, gamma, beta, mean, variance = operands
    column = (1, -1, 1, 1)
    rstd = ops.rsqrt(variance + eps)
    normal = (ops.conv2d(x, weight, pad_mode="same") - mean.reshape(column)) * rstd.reshape(column)
    y = normal * gamma.reshape(column) + beta.reshape(column)
    dy = MaxPoolGrad(2, 2, "valid")(ops.relu(y), agent, dagent) * (y > 0)
    dz = dy * (gamma * rstd).reshape(column)
    channels, kernel = weight.shape[0], weight.shape[2]
    dx = ops.Conv2DBackpropInput(channels, kernel, pad_mode="same")(dz, weight, x.shape)
    dweight = Conv2DBackpropFilter(channels, kernel, pad_mode="same")(dz, x, weight.shape)
    none = ops.zeros_like(gamma)
    return dx, (dweight, (dy * normal).sum((0, 2, 3)), dy.sum((0, 2, 3)), none, none)


def _gradients(backward, x, eps, alpha, branches, last, df):
    """The gradients in the order of the operator's inputs. The branches are computed anew, by their definition."""
    values = ops.split(eps, 1)
    agents = []
    for i in range(len(branches)):
        agents.append(_agent(x, branches[i], values[i].astype(ms.float32)))
    constants = ops.concat((values[len(branches)], values[len(branches)]))
    tail = backward(alpha, constants, *last, df, *agents)
    dx = ops.zeros_like(x)
    gradients = ()
    for i in range(len(branches)):
        by_x, by_operands = _branch_gradients(x, branches[i], values[i].astype(ms.float32), agents[i], tail[4 + i])
        dx = dx + by_x
        gradients = gradients + by_operands
    none = ops.zeros_like(last[1])
    return (dx, ops.zeros_like(eps), tail[0], *gradients, tail[1], tail[2], tail[3], none, none)


def _names(group):
    return [f"{name}{group}" for name in ("weight", "gamma", "beta", "mean", "variance")]


def _native_op(count):
    groups = [_names(k) for k in (*range(count), "_last")]
    arguments = ["x", "eps", "alpha", *(name for group in groups for name in group)]
    packed = ", ".join(f"({', '.join(group)})" for group in groups[:-1])
    agents = [f"a{k}" for k in range(count)]
    backward = _native.custom_op(
        "AggregateReduceInferenceBackward",
        ["alpha", "constants", *_names(""), "df", *agents],
        ["dalpha", "dweight", "dgamma", "dbeta", *(f"d{name}" for name in agents)],
    )
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, x, eps, alpha, ({packed}), ({', '.join(groups[-1])}), dout)",
        gradients=_gradients,
        backward=backward,
    )
    return _native.custom_op("MaamInference", arguments, ["f"], bprop)


# By number of branches. Built on import: the graph compiler cannot call a cache.
_NATIVE = tuple(
    _native_op(count) if count >= MIN_BRANCHES and _native.missing_reason(_SYMBOLS) is None else None
    for count in range(MAX_BRANCHES + 1)
)

_select.register(OP, _SYMBOLS)
