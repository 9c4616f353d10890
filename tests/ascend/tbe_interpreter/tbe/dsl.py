"""``tbe.dsl``: the instructions, `classify`, and the way from a graph to a program."""

from __future__ import annotations

import contextlib

import numpy as np

from tbe import graph
from tbe.graph import Tensor, Var

_MODES = ("elewise", "broadcast", "reduce")
_in_compute = [False]


@contextlib.contextmanager
def compute():
    _in_compute[0] = True
    try:
        yield
    finally:
        _in_compute[0] = False


def classify(ins, mode, extra_params=None):
    """The cases to build: here always one, the operands as they are."""
    if mode not in _MODES:
        raise RuntimeError(f"classify: mode {mode}")
    if mode == "reduce":
        roles = [operand.get("rel_pos_to_reduce") for operand in ins]
        if roles[-1] != "axis" or any(role not in ("before", "after") for role in roles[:-1]):
            raise RuntimeError(f"classify: rel_pos_to_reduce {roles}")
    return [list(ins)]


def _instruction(name, inputs, shape, dtype, evaluate):
    if not _in_compute[0]:
        raise RuntimeError(f"{name} outside `with dsl.compute()`")
    return Tensor(tuple(shape), dtype, name, tuple(inputs), evaluate)


def _elementwise(name, function, *tensors):
    first = tensors[0]
    for tensor in tensors[1:]:
        if tensor.shape != first.shape:
            raise RuntimeError(f"{name}: shapes {first.shape} and {tensor.shape} differ: broadcast is explicit")
        if tensor.dtype != first.dtype:
            raise RuntimeError(f"{name}: dtypes {first.dtype} and {tensor.dtype} differ")
    return _instruction(name, tensors, first.shape, first.dtype, lambda *values, extents: function(*values))


def vadd(lhs, rhs):
    return _elementwise("vadd", np.add, lhs, rhs)


def vmul(lhs, rhs):
    return _elementwise("vmul", np.multiply, lhs, rhs)


def vrelu(raw_tensor):
    return _elementwise("vrelu", lambda x: np.maximum(x, x.dtype.type(0)), raw_tensor)


def cast_to(data, dtype):
    if dtype not in ("float16", "float32"):
        raise RuntimeError(f"cast_to: dtype {dtype}")
    return _instruction("cast_to", [data], data.shape, dtype, lambda value, extents: value.astype(dtype))


def broadcast(var, shape):
    shape = tuple(shape)
    fits = len(var.shape) == len(shape) and all(have in (1, want) for have, want in zip(var.shape, shape, strict=True))
    if not fits:
        raise RuntimeError(f"broadcast: shape {var.shape} to {shape}")

    def evaluate(value, extents):
        return np.broadcast_to(value, [extents[e] if isinstance(e, Var) else e for e in shape])

    return _instruction("broadcast", [var], shape, var.dtype, evaluate)


def reduce_sum(raw_tensor, axis, keepdims=False):
    axes = tuple(axis)
    if any(not 0 <= a < len(raw_tensor.shape) for a in axes):
        raise RuntimeError(f"reduce_sum: axis {axis} of shape {raw_tensor.shape}")
    kept = [1 if a in axes else e for a, e in enumerate(raw_tensor.shape) if keepdims or a not in axes]

    def evaluate(value, extents):
        total = value.sum(axes, keepdims=keepdims, dtype=value.dtype)
        return total.reshape(1) if total.ndim == 0 else total

    return _instruction("reduce_sum", [raw_tensor], kept or [1], raw_tensor.dtype, evaluate)


def auto_schedule(outs):
    return list(outs) if isinstance(outs, (list, tuple)) else [outs]


def build(schedules, config):
    if len(schedules) != len(config["tensor_list"]):
        raise RuntimeError("build: one tensor_list a schedule")
    for schedule, tensors in zip(schedules, config["tensor_list"], strict=True):
        graph.build(config["name"], tensors, schedule)
