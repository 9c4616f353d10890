"""What the TBE operators share. Importable only where CANN's ``tbe`` package is, as the operators themselves are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tbe import dsl, tvm
from tbe.common.utils import para_check, shape_util

DTYPES = ("float16", "float32")
TensorDict = dict[str, Any]  # shape, dtype, format, and range where an extent of the shape is -1


def check_operands(op: str, operands: dict[str, TensorDict]) -> str:
    """Check shapes and types of data operands as TBE operators do; returns the dtype they share."""
    dtype = next(iter(operands.values()))["dtype"].lower()
    for name, operand in operands.items():
        para_check.check_shape(operand["shape"], param_name=name)
        para_check.check_dtype(operand["dtype"].lower(), DTYPES, param_name=name)
        if operand["dtype"].lower() != dtype:
            raise RuntimeError(f"{op}: {name}: got dtype {operand['dtype']}, expected {dtype} as the first operand")
    return dtype


def check_parameter(op: str, name: str, operand: TensorDict, shape: Sequence[int]) -> None:
    """Raise unless a small parameter has this shape and is float32: it stays so beside half data."""
    para_check.check_dtype(operand["dtype"].lower(), ("float32",), param_name=name)
    if tuple(operand["shape"]) != tuple(shape):
        raise RuntimeError(f"{op}: {name}: got shape {tuple(operand['shape'])}, expected {tuple(shape)}")


def check_same_shape(op: str, operands: dict[str, TensorDict]) -> None:
    """Raise unless all operands have the shape of the first, which may hold -1 for extents known at run time."""
    expected = tuple(next(iter(operands.values()))["shape"])
    for name, operand in operands.items():
        if tuple(operand["shape"]) != expected:
            raise RuntimeError(f"{op}: {name}: got shape {tuple(operand['shape'])}, expected {expected}")


def reshaped(operand: TensorDict, shape: Sequence[int]) -> TensorDict:
    """A static operand seen in another shape, for broadcasting."""
    return {**operand, "shape": tuple(shape), "range": tuple((extent, extent) for extent in shape)}


def widen(tensor: Any) -> Any:
    """float32, in which everything is computed."""
    return tensor if tensor.dtype == "float32" else dsl.cast_to(tensor, "float32")


def narrow(tensor: Any, dtype: str) -> Any:
    return tensor if tensor.dtype == dtype else dsl.cast_to(tensor, dtype)


def build(
    kernel_name: str,
    operands: Sequence[TensorDict],
    compute: Callable[..., Sequence[Any]],
    mode: str = "broadcast",
    extra: Sequence[TensorDict] = (),
) -> None:
    """Schedule and build an operator, once for each case of shapes that `classify` finds.

    Args:
        kernel_name: of the binary.
        operands: descriptions of the inputs in their order.
        compute: maps one placeholder an operand, and one description an item of ``extra``, to the results.
        mode: what `classify` is told of the operator: "broadcast" or "reduce".
        extra: what `classify` needs besides, such as the axes of a reduction.
    """
    para_check.check_kernel_name(kernel_name)
    schedules, tensors = [], []
    for case in dsl.classify([*operands, *extra], mode):
        with dsl.compute():
            inputs = case[: len(operands)]
            shapes = shape_util.variable_shape(list(inputs))
            placeholders = [
                tvm.placeholder(shape, operand["dtype"].lower(), f"input_{i}")
                for i, (shape, operand) in enumerate(zip(shapes, operands, strict=True))
            ]
            results = compute(*placeholders, *case[len(operands) :])
            tensors.append([*placeholders, *results])
        with tvm.target.cce():
            schedules.append(dsl.auto_schedule(results if len(results) > 1 else results[0]))
    dsl.build(schedules, {"name": kernel_name, "tensor_list": tensors})
