"""agent_aggregate in the TBE DSL, for ``ops.Custom(..., func_type="tbe")`` on Ascend.

The weights softmax(alpha) exist on the device only, so they cannot be the scalar operand of ``vmuls``, which is a
constant of the compiled kernel. Each comes as a float32 tensor of one element, is broadcast to the shape of its branch
and multiplied by ``vmul``: the vector unit reads it from the Unified Buffer and nothing is copied to the host.

Backward needs several operators: the reduction schedule has a single result, so the dot products are one operator
that runs for each branch. Unlike the Ascend C kernels it thus reads dG more than once.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops
from mindspore.ops import CustomRegOp, DataType, custom_info_register
from tbe import dsl

from maam_ops.ascend._tbe import (
    TensorDict,
    build,
    check_operands,
    check_parameter,
    check_same_shape,
    narrow,
    reshaped,
    widen,
)


def _named(name: str, operands: list[TensorDict] | tuple[TensorDict, ...]) -> dict[str, TensorDict]:
    return {f"{name}[{k}]": operand for k, operand in enumerate(operands)}


def _check_weights(op: str, weights: list[TensorDict], count: int) -> None:
    if len(weights) != count:
        raise RuntimeError(f"{op}: weights: got {len(weights)}, expected {count}, one for each branch")
    for k, weight in enumerate(weights):
        check_parameter(op, f"weights[{k}]", weight, (1,))


def _as_scalars(weights: list[TensorDict], like: TensorDict) -> list[TensorDict]:
    return [reshaped(weight, (1,) * len(like["shape"])) for weight in weights]


_AGGREGATE = (
    CustomRegOp("agent_aggregate_tbe")
    .input(0, "weights", "dynamic")
    .input(1, "branches", "dynamic")
    .output(0, "g", "required")
    .dtype_format(DataType.F32_Default, DataType.F16_Default, DataType.F16_Default)
    .dtype_format(DataType.F32_Default, DataType.F32_Default, DataType.F32_Default)
    .target("Ascend")
    .get_op_info()
)


@custom_info_register(_AGGREGATE)
def agent_aggregate_tbe(weights, branches, g, kernel_name="agent_aggregate_tbe"):
    """g = sum_k weights[k] * branches[k]; weights are N tensors of one element, branches N tensors of one shape."""
    op = "agent_aggregate_tbe"
    _check_weights(op, weights, len(branches))
    check_same_shape(op, _named("branches", branches) | {"g": g})
    dtype = check_operands(op, _named("branches", branches) | {"g": g})
    count = len(branches)

    def compute(*tensors):
        shape = tensors[count].shape
        total = None
        for weight, branch in zip(tensors[:count], tensors[count:], strict=True):
            term = dsl.vmul(dsl.broadcast(weight, shape), widen(branch))
            total = term if total is None else dsl.vadd(total, term)
        return [narrow(total, dtype)]

    build(kernel_name, [*_as_scalars(weights, branches[0]), *branches], compute)


_SCALE = (
    CustomRegOp("agent_aggregate_scale_tbe")
    .input(0, "dg", "required")
    .input(1, "weights", "dynamic")
    .output(0, "dbranches", "dynamic")
    .dtype_format(DataType.F16_Default, DataType.F32_Default, DataType.F16_Default)
    .dtype_format(DataType.F32_Default, DataType.F32_Default, DataType.F32_Default)
    .target("Ascend")
    .get_op_info()
)


@custom_info_register(_SCALE)
def agent_aggregate_scale_tbe(dg, weights, dbranches, kernel_name="agent_aggregate_scale_tbe"):
    """dbranches[k] = weights[k] * dg for all k, reading dg once."""
    op = "agent_aggregate_scale_tbe"
    _check_weights(op, weights, len(dbranches))
    check_same_shape(op, {"dg": dg} | _named("dbranches", dbranches))
    dtype = check_operands(op, {"dg": dg} | _named("dbranches", dbranches))

    def compute(dg_tensor, *weight_tensors):
        wide = widen(dg_tensor)
        return [narrow(dsl.vmul(dsl.broadcast(weight, dg_tensor.shape), wide), dtype) for weight in weight_tensors]

    build(kernel_name, [dg, *_as_scalars(weights, dg)], compute)


_DOT = (
    CustomRegOp("agent_aggregate_dot_tbe")
    .input(0, "dg", "required")
    .input(1, "branch", "required")
    .output(0, "dot", "required")
    .dtype_format(DataType.F16_Default, DataType.F16_Default, DataType.F32_Default)
    .dtype_format(DataType.F32_Default, DataType.F32_Default, DataType.F32_Default)
    .target("Ascend")
    .get_op_info()
)


@custom_info_register(_DOT)
def agent_aggregate_dot_tbe(dg, branch, dot, kernel_name="agent_aggregate_dot_tbe"):
    """dot = sum(dg * branch), one float32 element, whatever the type of the operands."""
    op = "agent_aggregate_dot_tbe"
    check_same_shape(op, {"dg": dg, "branch": branch})
    check_operands(op, {"dg": dg, "branch": branch})
    check_parameter(op, "dot", dot, (1,))
    rank = len(dg["shape"])
    axes = {"shape": (rank,), "value": list(range(rank)), "rel_pos_to_reduce": "axis"}
    operands = [{**operand, "rel_pos_to_reduce": "before"} for operand in (dg, branch)]

    def compute(dg_tensor, branch_tensor, axis):
        return [dsl.reduce_sum(dsl.vmul(widen(dg_tensor), widen(branch_tensor)), axis["value"], keepdims=False)]

    build(kernel_name, operands, compute, mode="reduce", extra=[axes])


def make_op(count: int) -> ops.Custom:
    """The operator of ``count`` branches, with its gradient: weights (a tuple of (1,)), branches (a tuple) -> g."""
    scale = ops.Custom(
        agent_aggregate_scale_tbe,
        lambda dg, weights: (dg,) * count,
        lambda dg, weights: (dg,) * count,
        "tbe",
        bprop=_no_second_derivative,
    )
    dot = ops.Custom(
        agent_aggregate_dot_tbe,
        lambda dg, branch: (1,),
        lambda dg, branch: ms.float32,
        "tbe",
        bprop=_no_second_derivative,
    )

    def bprop(weights, branches, out, dout):
        by_weight = [dot(dout, branch) for branch in branches]
        return tuple(by_weight), scale(dout, weights)

    return ops.Custom(
        agent_aggregate_tbe,
        lambda weights, branches: branches[0],
        lambda weights, branches: branches[0],
        "tbe",
        bprop=bprop,
    )


def _no_second_derivative(*_):
    raise NotImplementedError("maam_ops: the TBE kernels have no second derivative; use impl='reference'")
