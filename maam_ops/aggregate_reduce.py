"""Eq. 9 and Eq. 3 of the MAAM paper (arXiv 2504.13574) in one operator: branches to F, without G in memory.

G = sum_i softmax(alpha)_i A_i,  F = ReLU(BatchNorm(conv1x1(G)))
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from maam_ops import _native, _norms, _select, aggregate, reduce
from maam_ops._cell import parameter_of
from maam_ops._check import (
    MAX_BRANCHES,
    MIN_BRANCHES,
    check_branch_count,
    check_reduce,
    each,
    shape_of,
    shapes_of,
)

OP = "aggregate_reduce"
_SYMBOLS = (
    "AggregateReduceInference",
    "AggregateReduceTraining",
    "AggregateReduceBackward",
    "AggregateReduceInferenceBackward",
)


def reference(
    alpha: Tensor,
    branches: Sequence[Tensor],
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
    """The definition in pure MindSpore ops; arguments and results as :func:`aggregate_reduce`."""
    return reduce.reference(
        aggregate.reference(alpha, *branches),
        weight,
        gamma,
        beta,
        moving_mean,
        moving_variance,
        training=training,
        momentum=momentum,
        eps=eps,
    )


def aggregate_reduce(
    alpha: Tensor,
    branches: Sequence[Tensor],
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
    """ReLU(BatchNorm(conv1x1(sum_i softmax(alpha)_i branches_i))), with the sum kept in cache.

    Args:
        alpha, branches: as for ``agent_aggregate``; the branches as a list or tuple of N tensors (B, C, H, W).
        weight, gamma, beta, moving_mean, moving_variance, training, momentum, eps: as for ``reduce``.
        impl: "auto", "native" or "reference".

    Returns:
        F (B, O, H, W); in training (F, new_moving_mean, new_moving_variance).

    Raises:
        ValueError, TypeError, RuntimeError: as ``agent_aggregate`` and ``reduce``.
    """
    aggregate.check_mix(OP, alpha, branches)
    first = branches[0]
    shapes = shapes_of((weight, gamma, beta, moving_mean, moving_variance))
    check_reduce(OP, first.shape, first.dtype, shapes, training)
    momentum, eps = each(OP, "momentum", momentum, 1)[0], each(OP, "eps", eps, 1)[0]
    if _select.chosen(OP, impl, first.shape, training) == "native":
        return _run_native(alpha, branches, weight, gamma, beta, moving_mean, moving_variance, training, momentum, eps)
    return reference(
        alpha,
        branches,
        weight,
        gamma,
        beta,
        moving_mean,
        moving_variance,
        training=training,
        momentum=momentum,
        eps=eps,
    )


class FusedAggregateReduce(reduce.BatchNormReduce):
    """Softmax-weighted mixture of N branches, 1x1 convolution, batch normalisation and ReLU as one operator.

    It holds no ``nn.BatchNorm2d``: to freeze the normalisation in a net that trains, call ``set_train(False)`` on it.

    Args:
        num_agents: N, 2 to 8.
        in_channels: C of each branch.
        out_channels: O.
        init: N initial values of alpha; ones by default.
        eps, momentum: as for ``nn.BatchNorm2d``.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        N branches (B, C, H, W), one by one or as one list or tuple.

    Outputs:
        F (B, O, H, W). In training the running statistics are updated.
    """

    def __init__(
        self,
        num_agents: int,
        in_channels: int,
        out_channels: int,
        *,
        init: Sequence[float] | None = None,
        eps: float = 1e-5,
        momentum: float = 0.9,
        impl: str = "auto",
    ) -> None:
        super().__init__(OP, impl)
        self._adopt_alpha(aggregate.FusedAgentAggregate(num_agents, init).alpha)
        self._adopt_reduce(
            nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels, eps=eps, momentum=momentum)
        )

    @classmethod
    def from_cells(
        cls,
        alpha: Parameter | aggregate.FusedAgentAggregate,
        conv: nn.Conv2d,
        bn: nn.BatchNorm2d,
        impl: str = "auto",
    ) -> FusedAggregateReduce:
        """The fused form of ``ReLU(bn(conv(aggregate(branches))))``.

        The Parameter objects are kept; their names too, until the result becomes an attribute: see
        ``maam_ops.names_kept``.

        Raises:
            TypeError, ValueError: as ``FusedReduce.from_cells``, and for what is no alpha.
        """
        parameter = parameter_of("FusedAggregateReduce", alpha, aggregate.FusedAgentAggregate)
        cell = cls(parameter.size, 1, 1, impl=impl)
        cell._adopt_alpha(parameter)
        cell._adopt_reduce(conv, bn)
        cell.set_train(bn.training)
        return cell

    def _adopt_alpha(self, parameter: Parameter) -> None:
        self.adopt("alpha", parameter)
        self.num_agents = parameter.size

    def construct(self, *branches):
        branches = aggregate.flat_branches(branches)
        check_branch_count("FusedAggregateReduce", len(branches), self.num_agents)
        shape = shape_of("FusedAggregateReduce", "branches", branches[0])
        training = _norms.by_batch(self)
        result = aggregate_reduce(
            self.alpha,
            branches,
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
            f"num_agents={self.num_agents}, in_channels={self.in_channels}, out_channels={self.out_channels}, "
            f"eps={self.eps}, momentum={self.momentum}, impl={self.impl}"
        )


def _run_native(alpha, branches, weight, gamma, beta, moving_mean, moving_variance, training, momentum, eps):
    dtype = branches[0].dtype
    wide = ms.float64 if dtype == ms.float64 else ms.float32
    vectors = reduce.as_parameters(wide, alpha, gamma, beta, moving_mean, moving_variance)
    constants = reduce.batch_norm_constants(eps, momentum)
    small = (vectors[0], constants, reduce.kernel_weight(weight, dtype), *vectors[1:])
    if training:
        result = _TRAINING[len(branches)](*small, *branches)
        return result[0], result[4].astype(moving_mean.dtype), result[5].astype(moving_variance.dtype)
    return _INFERENCE[len(branches)](*small, *branches)


def _arrange(grads, constants, gamma):
    """The backward kernel's gradients in the order of the forward's inputs, zeros for its constants and statistics."""
    none = ops.zeros_like(gamma)
    return (grads[0], ops.zeros_like(constants), grads[1], grads[2], grads[3], none, none, *grads[4:])


_SMALL = ["alpha", "constants", "weight", "gamma", "beta", "moving_mean", "moving_variance"]


def _native_ops(count):
    """The inference and the training operator for this many branches."""
    names = [f"a{i}" for i in range(count)]
    branches = ", ".join(names)
    gradients = ["dalpha", "dweight", "dgamma", "dbeta", *(f"d{name}" for name in names)]
    backward = _native.custom_op("AggregateReduceInferenceBackward", [*_SMALL, "df", *names], gradients)
    inference = _native.custom_op(
        "AggregateReduceInference",
        [*_SMALL, *names],
        ["f"],
        _native.bprop_of(
            [*_SMALL, *names],
            f"arrange(backward({', '.join(_SMALL)}, dout, {branches}), constants, gamma)",
            arrange=_arrange,
            backward=backward,
        ),
    )
    backward = _native.custom_op(
        "AggregateReduceBackward",
        ["alpha", "weight", "gamma", "beta", "mean", "rstd", "z", "df", *names],
        gradients,
    )
    training = _native.custom_op(
        "AggregateReduceTraining",
        [*_SMALL, *names],
        ["f", "z", "mean", "rstd", "new_mean", "new_variance"],
        _native.bprop_of(
            [*_SMALL, *names],
            "arrange(backward(alpha, weight, gamma, beta, out[2], out[3], out[1], dout[0], "
            f"{branches}), constants, gamma)",
            arrange=_arrange,
            backward=backward,
        ),
    )
    return inference, training


# By number of branches, inference and training.
_INFERENCE, _TRAINING = zip(
    *(
        _native_ops(count) if count >= MIN_BRANCHES and _native.missing_reason(_SYMBOLS) is None else (None, None)
        for count in range(MAX_BRANCHES + 1)
    ),
    strict=True,
)

_select.register(OP, _SYMBOLS)
