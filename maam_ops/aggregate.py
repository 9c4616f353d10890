"""Softmax-weighted sum of N branches, Eq. 9 of the MAAM paper (arXiv 2504.13574).

w = softmax(alpha),  G = sum_i w_i A_i
dA_i = w_i dG,  d alpha_i = w_i (<dG, A_i> - sum_j w_j <dG, A_j>)
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from maam_ops import _native, _select
from maam_ops._cell import FusedCell
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES, check_branch_count, check_branches, shape_of
from maam_ops.ascend import aggregate_aclnn, aggregate_akg

OP = "agent_aggregate"
_SYMBOLS = ("AggregateForward", "AggregateBackward")


def reference(alpha: Tensor, *branches: Tensor) -> Tensor:
    """The definition in pure MindSpore ops; arguments and result as :func:`agent_aggregate`.

    Computes in float32 (float64 for float64 data) and rounds the result, as the kernels do.
    """
    branches = flat_branches(branches)
    check_mix(OP, alpha, branches)
    dtype = branches[0].dtype
    wide = ms.float64 if dtype == ms.float64 else ms.float32
    # Indexing a tensor costs milliseconds in PYNATIVE mode; split does not.
    weights = ops.split(ops.softmax(alpha.reshape((-1,)).astype(wide), 0), 1)
    total = weights[0] * branches[0].astype(wide)
    for i in range(1, len(branches)):
        total = total + weights[i] * branches[i].astype(wide)
    return total.astype(dtype)


def agent_aggregate(alpha: Tensor, *branches: Tensor, impl: str = "auto") -> Tensor:
    """Mix N branches by softmax-weighted learned scalars, in one pass over memory.

    Args:
        alpha: N elements in any shape, for instance (N,) or (N, 1, 1, 1); float32, or float64 for float64 data
            (anything else is cast).
        branches: N tensors (2 to 8), or one list or tuple of them, of one shape (any rank and layout) and one of
            float32, float16, bfloat16, float64.
        impl: "auto", "native", "reference" or another of ``maam_ops.info()``.

    Returns:
        G, of the branches' shape and dtype; sums are accumulated in float32 or wider.

    Raises:
        ValueError: number or shape of the branches, length of alpha, or an unknown ``impl``.
        TypeError: dtype of the branches, or anything but Tensors.
        RuntimeError: the implementation asked for is not available here.
    """
    branches = flat_branches(branches)
    check_mix(OP, alpha, branches)
    chosen = _select.chosen(OP, impl, branches[0].shape, None)
    if chosen == "native":
        return _run_native(alpha, branches)
    if chosen == "akg":
        return aggregate_akg.agent_aggregate(alpha, *branches)
    if chosen == "ascendc":
        return aggregate_aclnn.agent_aggregate(alpha, *branches)
    return reference(alpha, *branches)


class FusedAgentAggregate(FusedCell):
    """Learned softmax-weighted mixture of N branches, a drop-in for the usual weights-softmax-sum Cell.

    Args:
        num_agents: number of branches, 2 to 8.
        init: N initial values of alpha; ones (equal weights) by default.
        impl: implementation, fixed for the life of the Cell; see ``maam_ops.explain``.

    Inputs:
        The branches, one by one or as one list or tuple; see :func:`agent_aggregate`.

    Outputs:
        G, of the branches' shape and dtype.
    """

    def __init__(self, num_agents: int = 3, init: Sequence[float] | None = None, *, impl: str = "auto") -> None:
        super().__init__(OP, impl)
        check_branch_count("FusedAgentAggregate", num_agents)
        values = np.ones(num_agents, np.float32) if init is None else np.asarray(init, np.float32)
        if values.size != num_agents:
            raise ValueError(f"maam_ops.FusedAgentAggregate: init: got {values.size} values, expected {num_agents}")
        self.alpha = Parameter(Tensor(values), name="alpha")
        self.num_agents = num_agents

    @classmethod
    def from_parameter(cls, parameter: Parameter, impl: str = "auto") -> FusedAgentAggregate:
        """A Cell that mixes by an existing Parameter, kept as it is: object, shape and value.

        Its name stays too, until the result becomes an attribute: see ``maam_ops.names_kept``.
        """
        cell = cls(parameter.size, impl=impl)
        cell.adopt("alpha", parameter)
        return cell

    def construct(self, *branches):
        branches = flat_branches(branches)
        check_branch_count("FusedAgentAggregate", len(branches), self.num_agents)
        shape = shape_of("FusedAgentAggregate", "branches", branches[0])
        return agent_aggregate(self.alpha, *branches, impl=_select.path(OP, self.impl, self.automatic, shape, None))

    def extend_repr(self) -> str:
        return f"num_agents={self.num_agents}, impl={self.impl}"


def flat_branches(branches):
    """The branches, whether they came one by one or as one sequence."""
    if len(branches) == 1 and isinstance(branches[0], (list, tuple)):
        return tuple(branches[0])
    return branches


def check_mix(op, alpha, branches):
    """Raise unless alpha and the branches are Tensors that fit each other."""
    shapes = [shape_of(op, f"branch {i}", branches[i]) for i in range(len(branches))]
    check_branches(op, shape_of(op, "alpha", alpha), shapes, [branch.dtype for branch in branches])


def _run_native(alpha, branches):
    wide = ms.float64 if branches[0].dtype == ms.float64 else ms.float32
    if alpha.dtype != wide:
        alpha = alpha.astype(wide)
    return _NATIVE[len(branches)](alpha, *branches)


def _native_op(count: int) -> ops.Custom:
    names = [f"a{i}" for i in range(count)]
    backward = _native.custom_op(
        "AggregateBackward", ["alpha", "dg", *names], ["dalpha", *(f"d{name}" for name in names)]
    )
    arguments = ["alpha", *names]
    bprop = _native.bprop_of(arguments, f"backward(alpha, dout, {', '.join(names)})", backward=backward)
    return _native.custom_op("AggregateForward", arguments, ["g"], bprop)


# By number of branches. Built on import: the graph compiler cannot call a cache.
_NATIVE = tuple(
    _native_op(count) if count >= MIN_BRANCHES and _native.missing_reason(_SYMBOLS) is None else None
    for count in range(MAX_BRANCHES + 1)
)

_select.register(
    OP,
    _SYMBOLS,
    _select.Implementation("akg", "AKG kernels", aggregate_akg.available, automatic=False),
    _select.Implementation("ascendc", "Ascend C operators", aggregate_aclnn.available, automatic=False),
)
