"""The whole multi-agent module, images to F, Eq. 1, 9 and 3 of the MAAM paper (arXiv 2504.13574).

    A_i = maxpool2x2(ReLU(BatchNorm_i(conv_i(X)))),  G = sum_i softmax(alpha)_i A_i,  F = ReLU(BatchNorm(conv1x1(G)))

This is one operator in evaluation, where neither the A_i nor G are ever in memory, and one each for the forward and
backward of a training step, which keeps G, the 1x1 convolution and a byte for each element of the A_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from maam_ops import _branch, _norms, _select, agent_block, aggregate, aggregate_reduce, maam_deep
from maam_ops._cell import FusedCell, names_kept
from maam_ops._check import MIN_BRANCHES, check_operands, each
from maam_ops._maam_native import SYMBOLS, agent_of, chosen, run_native, why_not_training
from maam_ops._pool import is_empty, pooled_nothing

OP = "maam"
COMPOSITION = "composition"


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
    training: bool = False,
    momentum: float | Sequence[float] = 0.9,
    eps: float | Sequence[float] = 1e-5,
):
    """The definition in pure MindSpore ops; arguments and results as :func:`maam`.

    Computes in float32 and rounds F, as the kernels do.
    """
    check_operands(OP, 1, x, alpha, branches, (weight, gamma, beta, moving_mean, moving_variance), training)
    count = len(branches) + 1
    eps, momentum = each(OP, "eps", eps, count), each(OP, "momentum", momentum, count)
    agents = []
    statistics = ()
    for i in range(len(branches)):
        agent, new = agent_of(x.astype(ms.float32), branches[i], eps[i], training, momentum[i])
        agents.append(agent)
        statistics = statistics + new
    last = len(branches)
    result = aggregate_reduce.reference(
        alpha,
        agents,
        weight.astype(ms.float32),
        gamma,
        beta,
        moving_mean,
        moving_variance,
        training=training,
        momentum=momentum[last],
        eps=eps[last],
    )
    if training:
        return result[0].astype(x.dtype), (*statistics, result[1], result[2])
    return result.astype(x.dtype)


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
    training: bool = False,
    momentum: float | Sequence[float] = 0.9,
    eps: float | Sequence[float] = 1e-5,
    impl: str = "auto",
):
    """The whole module. In training the normalisations take the statistics of the batch.

    Without ``training`` there is a gradient too, for which the branches are computed anew by single operators.

    Args:
        x: images (B, Cin, H, W), H and W at least 2; float32, float16 or bfloat16 (computed in float32; if
            in inference all convolution weights are bfloat16 too, a CPU with AVX512-BF16 rounds G to bfloat16).
        alpha: N elements in any shape.
        branches: for each of N branches (2 to 8) its convolution's weight (C, Cin, k, k), k of 1, 3, 5 or 7, stride 1,
            zero padding that keeps the size, no bias; and its normalisation's gamma, beta, moving_mean and
            moving_variance, (C,) each.
        weight: (O, C, 1, 1).
        gamma, beta, moving_mean, moving_variance: (O,).
        training: native training needs Cin k k <= 147 and two pooled pixels a channel.
        momentum: weight of the old running statistics: one number, or N + 1, that of the last normalisation at the end.
        eps: added to the variances; as momentum.
        impl: "auto", "native" or "reference".

    Returns:
        F (B, O, H // 2, W // 2), of x's dtype; in training F and the new running statistics: mean and variance of each
        branch, then of the last normalisation, a flat tuple of 2 (N + 1).

    Raises:
        ValueError: shapes that do not fit, a single pooled pixel a channel in training, eps or momentum out of range,
            or an unknown ``impl``.
        TypeError: dtype of x.
        RuntimeError: the implementation asked for is not available here.
    """
    last = (weight, gamma, beta, moving_mean, moving_variance)
    check_operands(OP, 1, x, alpha, branches, last, training)
    count = len(branches) + 1
    eps, momentum = each(OP, "eps", eps, count), each(OP, "momentum", momentum, count)
    if chosen(OP, impl, x.shape, training, [branch[0].shape for branch in branches]) == "native":
        return run_native(x, alpha, branches, last, training, momentum, eps)
    return reference(x, alpha, branches, *last, training=training, momentum=momentum, eps=eps)


class FusedMAAM(FusedCell):
    """The multi-agent module as one operator, in evaluation and in training.

    Branches that the operator does not cover run as they are, followed by ``FusedAggregateReduce``; ``choice`` and
    ``maam_ops.explain`` say so and why. So do those of a module of which some normalisations are frozen:
    ``set_train(False)`` on those of ``branches``, or on ``mix``, whose normalisation is no Cell of its own. Whatever is
    packed or folded is made anew at each call, so that loaded or trained weights count at once.

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

    Raises:
        ValueError: eps out of range; when called, shapes that do not fit, or a single pooled pixel a channel in
            training.
        TypeError: when called, any type of X but float32, float16 and bfloat16, if the operator covers the branches.
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
        eps = each("FusedMAAM", "eps", eps, 1)[0]
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

        The Cells of the branches and all Parameter objects are kept. So are their names, unless several have the same,
        until the result becomes an attribute: see ``maam_ops.names_kept``.

        Args:
            branches: N Cells. To become one operator each must be an ``nn.SequentialCell`` of exactly ``nn.Conv2d``,
                ``nn.BatchNorm2d``, ``nn.ReLU``, once or twice in all of them, and ``nn.MaxPool2d(2, 2)``; a second
                convolution must be 3x3. Any other Cell is called as it is.
            alpha: their learned weights, or the Cell that holds them.
            conv, bn: the 1x1 convolution without bias and its normalisation.
            impl: as for the class; "native" raises RuntimeError where the operator does not cover the branches.

        Raises:
            TypeError, ValueError: as ``FusedAggregateReduce.from_cells``; branches that are no Cells, too many or few.
        """
        for i, branch in enumerate(branches):
            if not isinstance(branch, nn.Cell):
                raise TypeError(f"maam_ops.FusedMAAM: branches: got a {type(branch).__name__} at {i}, expected a Cell")
        cell = cls(1, 1, 1, num_agents=MIN_BRANCHES, impl=impl)
        mix = aggregate_reduce.FusedAggregateReduce.from_cells(alpha, conv, bn, impl=impl)
        if len(branches) != mix.num_agents:
            raise ValueError(
                f"maam_ops.FusedMAAM: branches: got {len(branches)}, expected {mix.num_agents} "
                "(one for each element of alpha)"
            )
        with names_kept(*branches, mix):
            cell._compose(nn.CellList(list(branches), auto_prefix=False), mix, impl)
        cell.tell_names_apart()
        cell.begin(bn.training)
        return cell

    def _compose(self, branches: nn.CellList, mix: aggregate_reduce.FusedAggregateReduce, impl: str) -> None:
        """Take the parts, and decide how they run."""
        self.branches, self.mix = branches, mix
        self._deep = _branch.convolutions_of(branches[0]) == 2
        reason = maam_deep.why_not_fused(branches, mix.in_channels) if self._deep else _why_not_fused(branches, mix)
        self._fusible = reason is None
        self._trains = False
        # Plain tuples: mixed precision replaces the normalisations in `branches` by Cells around them.
        self._blocks = self._norms = ()
        training = "training runs an operator for each branch, then aggregate_reduce"
        if self._fusible:
            norms = [bn for branch in branches for bn in _branch.normalisations_of(branch)]
            self._blocks, self._norms = tuple(tuple(branch) for branch in branches), (*norms, mix)
            self._eps = each("FusedMAAM", "eps", [bn.eps for bn in self._norms], len(self._norms))
            # nn.BatchNorm2d keeps the weight of the new value.
            self._momentum = (*(1 - bn.momentum for bn in norms), mix.momentum)
        if self._fusible and not self._deep:
            kernels = [branch[0].kernel_size[0] for branch in branches]
            training_reason = why_not_training(branches[0][0].in_channels, kernels)
            self._trains = training_reason is None
            training = f"training composes the branches: {training_reason}"
        self._op = maam_deep.OP if self._deep else OP
        choice = _select.choose(self._op, impl)
        if choice.impl == _select.NATIVE:
            choice = _choice_of_cell(choice, reason, asked_for=_select.is_explicit(impl))
            if self._fusible and not self._trains:
                choice = replace(choice, reason=f"{choice.reason}; {training}")
        self.choice, self.impl = choice, choice.impl

    def construct(self, x):
        if not self._fusible:
            return self._compose_branches(x)
        mix = self.mix
        statistics = _norms.statistics_of(self._norms)
        training = statistics != _norms.RUNNING
        operands = [_branch.operands_of(block) for block in self._blocks]
        last = (mix.weight, mix.gamma, mix.beta, mix.moving_mean, mix.moving_variance)
        check_operands("FusedMAAM", 2 if self._deep else 1, x, mix.alpha, operands, last, training)
        native = _select.path(self._op, self.impl, self.automatic, x.shape, training) == "native"
        native = native and statistics != _norms.MIXED
        if native and self._deep:
            return self._train_blocks(x) if training else maam_deep.run_native(x, mix.alpha, operands, last, self._eps)
        if native and (self._trains or not training):
            result = run_native(x, mix.alpha, operands, last, training, self._momentum, self._eps)
            return self._keep_statistics(*result) if training else result
        if is_empty(x.shape):
            return pooled_nothing(x, mix.out_channels)
        # As the kernels do, in the weights' type, and rounded once to that of x.
        return self._compose_branches(x.astype(operands[0][0].dtype)).astype(x.dtype)

    def _compose_branches(self, x):
        agents = []
        for branch in self.branches:
            agents.append(branch(x))
        return self.mix(agents)

    def _train_blocks(self, x):
        """Branches of two convolutions in training: one operator each."""
        agents = []
        for block in self._blocks:
            agents.append(agent_block.train_cells(x, block))
        return self.mix(agents)

    def _keep_statistics(self, f, statistics):
        i = 0
        for bn in self._norms:
            ops.assign(bn.moving_mean, statistics[i])
            ops.assign(bn.moving_variance, statistics[i + 1])
            i += 2
        return f

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
    if _branch.convolutions_of(branch) != 1:
        return (
            f"is {_branch.kinds_of(branch)}, not a SequentialCell of Conv2d, BatchNorm2d, ReLU, once or twice in all "
            "branches, and MaxPool2d"
        )
    conv, bn, _, pool = branch
    return _branch.why_not_conv(conv, bn, channels) or _branch.why_not_pool(pool)


def _choice_of_cell(choice: _select.Choice, reason: str | None, *, asked_for: bool) -> _select.Choice:
    """The native choice of the operator, refined by what the parts of a Cell allow."""
    if reason is None:
        return choice
    if asked_for:
        raise RuntimeError(
            f"maam_ops.FusedMAAM: impl=native: not available: {reason}. Use impl='auto' to run the branches as they are"
        )
    others = {_select.NATIVE: reason, **{k: v for k, v in choice.others.items() if k != _select.NATIVE}}
    return _select.Choice(OP, COMPOSITION, "branches as they are, then aggregate_reduce", others)


_select.register(OP, SYMBOLS)
