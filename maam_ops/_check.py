"""Argument checks shared by the operators: each error names the operator, the argument, what was got and expected.

They run at compile time in GRAPH mode (MindSpore's ``constexpr``), so they cost nothing in a compiled net.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore.ops.primitive import constexpr

MIN_BRANCHES = 2
MAX_BRANCHES = 8
FLOAT_TYPES = (ms.float32, ms.float16, ms.bfloat16, ms.float64)


def _unknown(extent: int | None) -> bool:
    """Whether an extent is only known at run time; the kernel checks it then."""
    return extent is None or extent < 0


def _same_shape(left: tuple[int | None, ...], right: tuple[int | None, ...]) -> bool:
    """Equality as far as the extents are known."""
    if -2 in left or -2 in right:  # MindSpore's way to say that not even the rank is known
        return True
    pairs = zip(left, right, strict=False)
    return len(left) == len(right) and all(a == b or _unknown(a) or _unknown(b) for a, b in pairs)


def _expect_float(op: str, argument: str, dtype) -> None:
    if dtype not in FLOAT_TYPES:
        names = ", ".join(str(known) for known in FLOAT_TYPES)
        raise TypeError(f"maam_ops.{op}: {argument}: got dtype {dtype}, expected one of {names}")


@constexpr
def is_single(dtype) -> bool:
    """Whether kernels that compute in float32 read it from memory themselves."""
    return dtype in (ms.float32, ms.float16, ms.bfloat16)


@constexpr
def check_branch_count(op: str, count: int, expected: int = 0) -> bool:
    """Raise ValueError unless ``count`` is ``expected`` (or 2 to 8 where that is 0)."""
    if expected and count != expected:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {expected} (one for each element of alpha)")
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    return True


@constexpr
def check_branches(op: str, alpha_shape, shapes, dtypes) -> bool:
    """Raise unless alpha has one element a branch and all branches share a shape and a float dtype."""
    count = len(shapes)
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    if not any(map(_unknown, alpha_shape)) and math.prod(alpha_shape) != count:
        raise ValueError(
            f"maam_ops.{op}: alpha: got shape {tuple(alpha_shape)}, expected {count} elements, one a branch"
        )
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
def check_reduce(op: str, shape, dtype, weight, gamma, beta, training: bool) -> bool:
    """Raise unless ``shape`` is (B, C, H, W), the weight (O, C[, 1, 1]) and the vectors (O,) fit, and training can."""
    if len(shape) != 4:
        raise ValueError(f"maam_ops.{op}: g: got shape {tuple(shape)}, expected (B, C, H, W)")
    _expect_float(op, "g", dtype)
    if len(weight) not in (2, 4) or tuple(weight[2:]) not in ((), (1, 1)) or not _same_shape(shape[1:2], weight[1:2]):
        raise ValueError(
            f"maam_ops.{op}: weight: got shape {tuple(weight)}, expected (O, {shape[1]}, 1, 1) or (O, {shape[1]})"
        )
    for name, vector in (("gamma", gamma), ("beta", beta)):
        if tuple(vector) != (weight[0],):
            raise ValueError(f"maam_ops.{op}: {name}: got shape {tuple(vector)}, expected ({weight[0]},)")
    if training and not any(map(_unknown, shape)) and (elements := shape[0] * shape[2] * shape[3]) < 2:
        raise ValueError(
            f"maam_ops.{op}: g: got shape {tuple(shape)}, {elements} element(s) per channel, expected at least 2 in "
            "training: the variance is undefined. Use a larger batch, or training=False"
        )
    return True


@constexpr
def check_maam(op: str, shape, dtype, alpha, kernels, weight) -> bool:
    """Raise unless images, the branches' convolutions and the 1x1 one fit each other and the operator."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    if len(shape) != 4 or shape[2] in (0, 1) or shape[3] in (0, 1):
        raise ValueError(f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), H and W at least 2")
    count = len(kernels)
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    elements = 1
    for extent in alpha:
        elements *= extent
    if elements != count:
        raise ValueError(f"maam_ops.{op}: alpha: got shape {tuple(alpha)}, expected {count} elements, one a branch")
    inputs = kernels[0][1] if shape[1] == -1 else shape[1]
    for i in range(count):
        got = tuple(kernels[i])
        if len(got) != 4 or got[2] not in (1, 3, 5, 7) or got != (kernels[0][0], inputs, got[2], got[2]):
            raise ValueError(
                f"maam_ops.{op}: branch {i}: got a weight of shape {got}, expected "
                f"({kernels[0][0]}, {inputs}, k, k), k of 1, 3, 5 or 7"
            )
    if len(weight) != 4 or tuple(weight[1:]) != (kernels[0][0], 1, 1):
        raise ValueError(f"maam_ops.{op}: weight: got shape {tuple(weight)}, expected (O, {kernels[0][0]}, 1, 1)")
    return True


@constexpr
def check_maam_training(op: str, shape) -> bool:
    """Raise where the last normalisation would see a single element: an operator could say so only afterwards."""
    if not any(map(_unknown, shape)) and (elements := shape[0] * (shape[2] // 2) * (shape[3] // 2)) < 2:
        raise ValueError(
            f"maam_ops.{op}: x: got shape {tuple(shape)}, {elements} element(s) per channel after pooling, expected at "
            "least 2 in training: the variance is undefined. Use a larger batch or image, or training=False"
        )
    return True


@constexpr
def check_maam_mix(op: str, shape, dtype, alpha, kernels) -> bool:
    """As ``check_maam`` without the 1x1 convolution; a single branch will do."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    if len(shape) != 4 or shape[2] in (0, 1) or shape[3] in (0, 1):
        raise ValueError(f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), H and W at least 2")
    count = len(kernels)
    if not 1 <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected 1 to {MAX_BRANCHES}")
    if math.prod(alpha) != count:
        raise ValueError(f"maam_ops.{op}: alpha: got shape {tuple(alpha)}, expected {count} elements, one a branch")
    inputs = kernels[0][1] if shape[1] == -1 else shape[1]
    for i in range(count):
        got = tuple(kernels[i])
        if len(got) != 4 or got[2] not in (1, 3, 5, 7) or got != (kernels[0][0], inputs, got[2], got[2]):
            raise ValueError(
                f"maam_ops.{op}: branch {i}: got a weight of shape {got}, expected "
                f"({kernels[0][0]}, {inputs}, k, k), k of 1, 3, 5 or 7"
            )
    return True


@constexpr
def check_maam_deep(op: str, shape, dtype, alpha, kernels, weight) -> bool:
    """As ``check_maam`` for branches of two convolutions, ``kernels`` being pairs of shapes."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    if len(shape) != 4 or shape[2] in (0, 1) or shape[3] in (0, 1):
        raise ValueError(f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), H and W at least 2")
    count = len(kernels)
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    if math.prod(alpha) != count:
        raise ValueError(f"maam_ops.{op}: alpha: got shape {tuple(alpha)}, expected {count} elements, one a branch")
    middle, channels = kernels[0][0][0], kernels[0][1][0]
    inputs = kernels[0][0][1] if shape[1] == -1 else shape[1]
    for i in range(count):
        first, second = tuple(kernels[i][0]), tuple(kernels[i][1])
        if len(first) != 4 or first[2] not in (1, 3, 5, 7) or first != (middle, inputs, first[2], first[2]):
            raise ValueError(
                f"maam_ops.{op}: branch {i}: got a first weight of shape {first}, expected "
                f"({middle}, {inputs}, k, k), k of 1, 3, 5 or 7"
            )
        if second != (channels, middle, 3, 3):
            raise ValueError(
                f"maam_ops.{op}: branch {i}: got a second weight of shape {second}, expected "
                f"({channels}, {middle}, 3, 3)"
            )
    if len(weight) != 4 or tuple(weight[1:]) != (channels, 1, 1):
        raise ValueError(f"maam_ops.{op}: weight: got shape {tuple(weight)}, expected (O, {channels}, 1, 1)")
    return True


@constexpr
def check_agent_block(op: str, shape, dtype, first, second) -> bool:
    """Raise unless images and the two convolutions of a branch fit each other and the operator."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    if len(shape) != 4 or shape[0] == 0 or shape[2] in (0, 1) or shape[3] in (0, 1):
        raise ValueError(
            f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), B at least 1, H and W at least 2"
        )
    inputs = first[1] if shape[1] == -1 else shape[1]
    if len(first) != 4 or first[2] not in (1, 3, 5, 7) or tuple(first[1:]) != (inputs, first[2], first[2]):
        raise ValueError(
            f"maam_ops.{op}: first weight: got shape {tuple(first)}, expected (M, {inputs}, k, k), k of 1, 3, 5 or 7"
        )
    if len(second) != 4 or tuple(second[1:]) != (first[0], 3, 3):
        raise ValueError(f"maam_ops.{op}: second weight: got shape {tuple(second)}, expected (C, {first[0]}, 3, 3)")
    return True


@constexpr
def check_conv_block(op: str, shape, dtype, weight, residual, pool: bool, training: bool) -> bool:
    """Raise unless images, a 3x3 convolution and what follows it fit each other; ``residual``: a shape, or None."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    least = 2 if pool else 1
    if len(shape) != 4 or shape[2] in (0, least - 1) or shape[3] in (0, least - 1):
        raise ValueError(
            f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), H and W at least {least}"
        )
    if training and not any(map(_unknown, shape)) and shape[0] * shape[2] * shape[3] < 2:
        raise ValueError(
            f"maam_ops.{op}: x: got shape {tuple(shape)}, expected at least two pixels a channel in training"
        )
    inputs = weight[1] if _unknown(shape[1]) else shape[1]
    if len(weight) != 4 or tuple(weight[1:]) != (inputs, 3, 3):
        raise ValueError(f"maam_ops.{op}: weight: got shape {tuple(weight)}, expected (C, {inputs}, 3, 3)")
    if residual is None:
        return True
    if pool:
        raise ValueError(f"maam_ops.{op}: residual: got one beside pool=True, expected one or the other")
    expected = (shape[0], weight[0], shape[2], shape[3])
    if not _same_shape(tuple(residual), expected):
        raise ValueError(f"maam_ops.{op}: residual: got shape {tuple(residual)}, expected {expected}")
    return True


@constexpr
def check_dense(op: str, shape, dtype, weight, bias) -> bool:
    """Raise unless x is (..., K) or (B, ...) of K elements a row, the weight (O, K) and the bias, or (), (O,)."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    flat = len(shape) > 2 and (any(map(_unknown, shape[1:])) or math.prod(shape[1:]) == weight[-1])
    if len(shape) < 1 or len(weight) != 2 or weight[1] < 1 or not (flat or shape[-1] in (weight[1], -1)):
        raise ValueError(
            f"maam_ops.{op}: weight: got shape {tuple(weight)} for x {tuple(shape)}, expected (O, K) for (..., K)"
        )
    if tuple(bias) not in ((), (weight[0],)):
        raise ValueError(f"maam_ops.{op}: bias: got shape {tuple(bias)}, expected ({weight[0]},)")
    return True


@constexpr
def check_cross_entropy(op: str, shape, dtype, labels, labels_dtype, smoothing) -> bool:
    """Raise unless the logits are (B, K), K >= 1, the labels (B,) whole numbers, and the smoothing is in [0, 1]."""
    _expect_float(op, "logits", dtype)
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"maam_ops.{op}: logits: got shape {tuple(shape)}, expected (B, K), K at least 1")
    if labels_dtype not in (ms.int32, ms.int64):
        raise TypeError(f"maam_ops.{op}: labels: got dtype {labels_dtype}, expected Int32 or Int64")
    if not _same_shape(tuple(labels), tuple(shape[:1])):
        raise ValueError(f"maam_ops.{op}: labels: got shape {tuple(labels)}, expected ({shape[0]},), one a row")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"maam_ops.{op}: label_smoothing: got {smoothing}, expected 0 to 1")
    return True
