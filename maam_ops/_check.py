"""Argument checks shared by the operators: each error names the operator, the argument, what was got and expected.

They run at compile time in GRAPH mode (MindSpore's ``constexpr``), so they cost nothing in a compiled net. Operators
and Cells check before they choose an implementation, so that all of these refuse the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import mindspore as ms
from mindspore.ops.functional import is_sequence_shape_unknown
from mindspore.ops.primitive import constexpr

from maam_ops._tensors import require_tensor

MIN_BRANCHES = 2
MAX_BRANCHES = 8
FLOAT_TYPES = (ms.float32, ms.float16, ms.bfloat16, ms.float64)
_TENSORS = ("weight", "gamma", "beta", "moving_mean", "moving_variance")
# Those of nn.BatchNorm2d, and of the ops.BatchNorm within it.
_RANGES = {"eps": (lambda v: 0 < v <= 1, "above 0, up to 1"), "momentum": (lambda v: 0 <= v <= 1, "0 to 1")}


def _unknown(extent: int | None) -> bool:
    """Whether an extent is only known at run time; the kernel checks it then."""
    return extent is None or extent < 0


@constexpr
def _in_graph_mode() -> bool:
    return ms.get_context("mode") == ms.GRAPH_MODE


@constexpr
def _refuse_unknown_rank(op: str, argument: str) -> bool:
    raise ValueError(
        f"maam_ops.{op}: {argument}: got a tensor of unknown rank, expected a known number of axes: give set_inputs a "
        "Tensor(shape=[None, ...]) with one entry an axis, not shape=None"
    )


def shape_of(op, argument, tensor):
    """Its shape, in which extents may be unknown; for calls in a graph too."""
    require_tensor(op, argument, tensor)
    # No kernel can be asked for shapes without a rank. In PYNATIVE mode there is always one, and asking takes 70 us.
    if _in_graph_mode() and is_sequence_shape_unknown(tensor.shape):
        _refuse_unknown_rank(op, argument)
    return tensor.shape


def _same_shape(left: Sequence[int | None], right: Sequence[int | None]) -> bool:
    """Equality as far as the extents are known."""
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(a == b or _unknown(a) or _unknown(b) for a, b in pairs)


def _expect_float(op: str, argument: str, dtype) -> None:
    if dtype not in FLOAT_TYPES:
        names = ", ".join(str(known) for known in FLOAT_TYPES)
        raise TypeError(f"maam_ops.{op}: {argument}: got dtype {dtype}, expected one of {names}")


def _expect_single(op: str, dtype) -> None:
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")


def _expect_images(op: str, shape, dtype, least: int) -> None:
    _expect_single(op, dtype)
    if len(shape) != 4 or any(not _unknown(extent) and extent < least for extent in shape[2:]):
        raise ValueError(
            f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), H and W at least {least}"
        )


def _expect_two(op: str, argument: str, shape, where: str = "", halved: bool = False) -> None:
    """For training: two elements a channel, or the variance is undefined."""
    if any(map(_unknown, shape)):
        return
    height, width = (extent // 2 if halved else extent for extent in shape[2:])
    elements = shape[0] * height * width
    if elements < 2:
        raise ValueError(
            f"maam_ops.{op}: {argument}: got shape {tuple(shape)}, {elements} element(s) per channel{where}, expected "
            "at least 2 in training: the variance is undefined. Use a larger batch or image, or training=False"
        )


def _expect_branches(op: str, count: int, least: int = MIN_BRANCHES) -> None:
    if not least <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {least} to {MAX_BRANCHES}")


def _expect_alpha(op: str, shape, count: int) -> None:
    if not any(map(_unknown, shape)) and math.prod(shape) != count:
        raise ValueError(f"maam_ops.{op}: alpha: got shape {tuple(shape)}, expected {count} elements, one a branch")


def _expect_layer(op: str, where: str, shapes, outputs: int | str, inputs: int, sizes: Sequence[int]) -> None:
    """The shapes of a convolution's weight and its normalisation's vectors; ``outputs``: a letter where any will do."""
    weight = tuple(shapes[0])
    size = weight[-1] if len(weight) == 4 else 0
    free = isinstance(outputs, str)
    if size not in sizes or not _same_shape(weight, (None if free else outputs, inputs, size, size)):
        expected = f"({outputs}, {inputs}, k, k), k of 1, 3, 5 or 7"
        if len(sizes) == 1:
            expected = f"({outputs}, {inputs}, {sizes[0]}, {sizes[0]})"
        raise ValueError(f"maam_ops.{op}: {where}weight: got shape {weight}, expected {expected}")
    _expect_vectors(op, where, shapes)


def _expect_vectors(op: str, where: str, shapes) -> None:
    for name, shape in zip(_TENSORS[1:], shapes[1:], strict=True):
        if not _same_shape(tuple(shape), (shapes[0][0],)):
            raise ValueError(f"maam_ops.{op}: {where}{name}: got shape {tuple(shape)}, expected ({shapes[0][0]},)")


def _expect_tensors(op: str, where: str, shapes, layers: int = 1) -> None:
    if len(shapes) != len(_TENSORS) * layers:
        times = "" if layers == 1 else ", twice"
        raise ValueError(
            f"maam_ops.{op}: {where}: got {len(shapes)} tensors, expected {len(_TENSORS) * layers}: "
            f"{', '.join(_TENSORS)}{times}"
        )


@constexpr
def is_single(dtype) -> bool:
    """Whether kernels that compute in float32 read it from memory themselves."""
    return dtype in (ms.float32, ms.float16, ms.bfloat16)


@constexpr
def each(op: str, name: str, value: Any, count: int):
    """eps or momentum of each of ``count`` normalisations, from one number or as many."""
    values = (value,) * count if isinstance(value, Real) else value
    if not isinstance(values, (tuple, list)) or not all(isinstance(number, Real) for number in values):
        raise TypeError(f"maam_ops.{op}: {name}: got {value!r}, expected a number{_or_as_many(count)}")
    if len(values) != count:
        raise ValueError(f"maam_ops.{op}: {name}: got {len(values)} values, expected one{_or_as_many(count)}")
    fits, expected = _RANGES[name]
    for number in values:
        if not fits(number):
            raise ValueError(f"maam_ops.{op}: {name}: got {number}, expected {expected}, as nn.BatchNorm2d")
    return tuple(float(number) for number in values)


def shapes_of(tensors):
    """The shape of each; for calls in a graph too."""
    return tuple([tensor.shape for tensor in tensors])


def _or_as_many(count: int) -> str:
    return f", or {count}" if count > 1 else ""


@constexpr
def check_branch_count(op: str, count: int, expected: int = 0) -> bool:
    """Raise unless ``count`` is ``expected`` (or 2 to 8 where that is 0)."""
    if not isinstance(count, Integral):
        raise TypeError(f"maam_ops.{op}: branches: got {count!r}, expected a whole number")
    if expected and count != expected:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {expected} (one for each element of alpha)")
    _expect_branches(op, count)
    return True


@constexpr
def check_branches(op: str, alpha_shape, shapes, dtypes) -> bool:
    """Raise unless alpha has one element a branch and all branches share a shape and a float dtype."""
    count = len(shapes)
    _expect_branches(op, count)
    _expect_alpha(op, alpha_shape, count)
    _expect_float(op, "branch 0", dtypes[0])
    first = tuple(shapes[0])
    for i in range(1, count):
        if not _same_shape(tuple(shapes[i]), first):
            raise ValueError(
                f"maam_ops.{op}: branch {i}: got shape {tuple(shapes[i])}, expected that of branch 0, {first}"
            )
        if dtypes[i] != dtypes[0]:
            raise TypeError(f"maam_ops.{op}: branch {i}: got dtype {dtypes[i]}, expected that of branch 0, {dtypes[0]}")
    return True


@constexpr
def check_reduce(op: str, shape, dtype, shapes, training: bool) -> bool:
    """Raise unless ``shape`` is (B, C, H, W), the weight (O, C[, 1, 1]) and the vectors (O,) fit, and training can."""
    if len(shape) != 4:
        raise ValueError(f"maam_ops.{op}: g: got shape {tuple(shape)}, expected (B, C, H, W)")
    _expect_float(op, "g", dtype)
    weight = tuple(shapes[0])
    if len(weight) not in (2, 4) or weight[2:] not in ((), (1, 1)) or not _same_shape(shape[1:2], weight[1:2]):
        raise ValueError(
            f"maam_ops.{op}: weight: got shape {weight}, expected (O, {shape[1]}, 1, 1) or (O, {shape[1]})"
        )
    _expect_vectors(op, "", shapes)
    if training:
        _expect_two(op, "g", shape)
    return True


def check_operands(op, layers, x, alpha, branches, last, training):
    """``check_module`` of the tensors themselves; for calls in a graph too."""
    shapes = [shapes_of(branch) for branch in branches]
    x_shape, alpha_shape = shape_of(op, "x", x), shape_of(op, "alpha", alpha)
    return check_module(op, layers, x_shape, x.dtype, alpha_shape, shapes, shapes_of(last), training)


@constexpr
def check_module(op: str, layers: int, shape, dtype, alpha, branches, last, training: bool) -> bool:
    """Raise unless images, branches of one or two convolutions and the 1x1 one behind their mix fit the operator.

    ``branches`` and ``last``: the shapes of weight, gamma, beta, moving_mean and moving_variance of each convolution;
    ``last`` is empty where the mix ends the module, and a single branch will do then.
    """
    _expect_images(op, shape, dtype, 2)
    _expect_branches(op, len(branches), MIN_BRANCHES if last else 1)
    _expect_alpha(op, alpha, len(branches))
    for i, branch in enumerate(branches):
        _expect_tensors(op, f"branch {i}", branch, layers)
        inputs = branches[0][0][1] if _unknown(shape[1]) else shape[1]
        for k in range(layers):
            outputs = branches[0][5 * k][0]
            which = f"{('first', 'second')[k]} " if layers > 1 else ""
            sizes = (3,) if k else (1, 3, 5, 7)
            _expect_layer(op, f"branch {i}: {which}", branch[5 * k : 5 * k + 5], outputs, inputs, sizes)
            inputs = outputs
    if last:
        _expect_layer(op, "", last, "O", inputs, (1,))
    if training:
        _expect_two(op, "x", shape, " after pooling" if last else "", halved=bool(last))
    return True


@constexpr
def check_agent_block(op: str, shape, dtype, first, second, training: bool = True) -> bool:
    """Raise unless images and the two convolutions of a branch, five shapes each, fit each other and the operator."""
    _expect_images(op, shape, dtype, 2)
    for name, shapes in (("first", first), ("second", second)):
        _expect_tensors(op, name, shapes)
    _expect_layer(op, "first ", first, "M", first[0][1] if _unknown(shape[1]) else shape[1], (1, 3, 5, 7))
    _expect_layer(op, "second ", second, "C", first[0][0], (3,))
    if training:
        _expect_two(op, "x", shape)
    return True


@constexpr
def check_conv_block(op: str, shape, dtype, shapes, residual, pool: bool, training: bool) -> bool:
    """Raise unless images, a 3x3 convolution and what follows it fit each other; ``residual``: a shape, or None."""
    _expect_images(op, shape, dtype, 2 if pool else 1)
    _expect_layer(op, "", shapes, "C", shapes[0][1] if _unknown(shape[1]) else shape[1], (3,))
    if training:
        _expect_two(op, "x", shape)
    if residual is None:
        return True
    if pool:
        raise ValueError(f"maam_ops.{op}: residual: got one beside pool=True, expected one or the other")
    expected = (shape[0], shapes[0][0], shape[2], shape[3])
    if not _same_shape(tuple(residual), expected):
        raise ValueError(f"maam_ops.{op}: residual: got shape {tuple(residual)}, expected {expected}")
    return True


@constexpr
def check_dense(op: str, shape, dtype, weight, bias) -> bool:
    """Raise unless x is (..., K) or (B, ...) of K elements a row, the weight (O, K) and the bias, or (), (O,)."""
    _expect_single(op, dtype)
    flat = len(shape) > 2 and (any(map(_unknown, shape[1:])) or math.prod(shape[1:]) == weight[-1])
    if len(shape) < 1 or len(weight) != 2 or weight[1] < 1 or not (flat or _same_shape(shape[-1:], weight[1:])):
        raise ValueError(
            f"maam_ops.{op}: weight: got shape {tuple(weight)} for x {tuple(shape)}, expected (O, K) for (..., K)"
        )
    if tuple(bias) not in ((), (weight[0],)):
        raise ValueError(f"maam_ops.{op}: bias: got shape {tuple(bias)}, expected ({weight[0]},)")
    return True


@constexpr
def check_cross_entropy(op: str, shape, dtype, labels, labels_dtype) -> bool:
    """Raise unless the logits are (B, K), K >= 1, and the labels (B,) whole numbers."""
    _expect_float(op, "logits", dtype)
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"maam_ops.{op}: logits: got shape {tuple(shape)}, expected (B, K), K at least 1")
    if labels_dtype not in (ms.int32, ms.int64):
        raise TypeError(f"maam_ops.{op}: labels: got dtype {labels_dtype}, expected Int32 or Int64")
    if not _same_shape(tuple(labels), tuple(shape[:1])):
        raise ValueError(f"maam_ops.{op}: labels: got shape {tuple(labels)}, expected ({shape[0]},), one a row")
    return True
