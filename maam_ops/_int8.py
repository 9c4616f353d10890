"""Bytes as the int8 operators read them (``csrc/core/int8.h``): packed weights, and the references' arithmetic."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES

MAX_ACTIVATION = 127
MAX_WEIGHT = 127
BLOCK, QUAD = 16, 4
MAX_DEPTH = 2**30 // (MAX_ACTIVATION * MAX_WEIGHT)


def round_up(value: int, multiple: int) -> int:
    """The next multiple."""
    return -(-value // multiple) * multiple


def pack(weight: np.ndarray) -> np.ndarray:
    """Weights (outputs, depth) as int8 (blocks of 16 outputs, quads of the depth, 16, 4), zeros where there is none."""
    outputs, depth = weight.shape
    padded = np.zeros((round_up(outputs, BLOCK), round_up(depth, QUAD)), np.int8)
    padded[:outputs, :depth] = weight
    blocks = padded.reshape(-1, BLOCK, padded.shape[1] // QUAD, QUAD).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(blocks)


def pack_conv(weight: np.ndarray) -> np.ndarray:
    """The same of a convolution (outputs, inputs, k, k); the depth runs over row, column, input channel."""
    return pack(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1))


def unpack(packed, outputs: int, depth: int):
    """(outputs, depth) in float64, in which sums of integers below 2^53 are exact whatever their order."""
    blocks, quads = packed.shape[0], packed.shape[1]
    rows = ops.transpose(packed.astype(ms.float64), (0, 2, 1, 3)).reshape(blocks * BLOCK, quads * QUAD)
    return rows[:outputs, :depth]


def quantise(x, step):
    """Images (B, C, H, W) as whole numbers 0 to 127 in float32; ``step``: 1 / step and zero. NaN counts as 0."""
    number = ops.where(x == x, x, ops.zeros_like(x))
    return ops.round(ops.clip_by_value(number * step[0] + step[1], 0.0, float(MAX_ACTIVATION)))


def requantise(z, scale):
    """uint8 (..., O rounded up to 4) that stands for max(z, 0) * scale; z (..., O) whole numbers in float64."""
    product = ops.maximum(z, 0.0).astype(ms.float32) * scale
    bytes_ = ops.round(ops.minimum(product, float(MAX_ACTIVATION)))
    missing = -bytes_.shape[-1] % QUAD
    if missing:
        bytes_ = ops.pad(bytes_, (0, missing))
    return bytes_.astype(ms.uint8)


def convolve(q, packed, outputs: int, kernel: int, zero):
    """(B, H, W, Cin) whole numbers in float64 -> (B, H, W, O); ``zero`` stands around the image."""
    batch, height, width, inputs = q.shape
    edge = kernel // 2
    # What stands around is taken off before the padding and added again, since padding takes constants alone.
    padded = ops.pad(q - zero, (0, 0, edge, edge, edge, edge)) + zero if edge else q
    weight = unpack(packed, outputs, kernel * kernel * inputs)
    z = 0.0
    for tap in range(kernel * kernel):
        y, x = tap // kernel, tap % kernel
        rows = padded[:, y : y + height, x : x + width].reshape(batch * height * width, inputs)
        taps = weight[:, tap * inputs : (tap + 1) * inputs]
        z = z + ops.matmul(rows, ops.transpose(taps, (1, 0)))
    return z.reshape(batch, height, width, outputs)


def max_pool(z):
    """2x2, rounded down, of (B, H, W, C)."""
    batch, height, width, channels = z.shape
    even = z[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def reduce(g, weight, bias, scale):
    """F from G (B, H, W, C), whole numbers in float64: the 1x1 convolution, ReLU, requantised."""
    return requantise(convolve(g, weight, bias.shape[0], 1, 0.0) + bias.astype(ms.float64), scale)


def parameters_of(cell, **arrays: np.ndarray) -> None:
    """Make arrays a Cell's own Parameters, which no optimizer trains."""
    for name, array in arrays.items():
        setattr(cell, name, ms.Parameter(Tensor(np.ascontiguousarray(array)), name=name, requires_grad=False))


def packed_shape(outputs: int, depth: int) -> tuple[int, int, int, int]:
    """Of packed weights (outputs, depth)."""
    return -(-outputs // BLOCK), -(-depth // QUAD), BLOCK, QUAD


def check_packed(op: str, name: str, shape, outputs: int, depth: int) -> None:
    """Raise unless a packed weight has its shape; a depth below 0 is known at run time only."""
    expected = packed_shape(outputs, depth)
    if depth > 0 and tuple(shape) != expected:
        raise ValueError(
            f"maam_ops.{op}: {name}: got shape {tuple(shape)}, expected {expected}, packed as maam_ops.quantize does"
        )


def check_images(op: str, shape, dtype, step) -> None:
    """Raise unless the images and their step fit the modules on bytes."""
    if dtype not in (ms.float32, ms.float16, ms.bfloat16):
        raise TypeError(f"maam_ops.{op}: x: got dtype {dtype}, expected float32, float16 or bfloat16")
    if len(shape) != 4 or shape[2] in (0, 1) or shape[3] in (0, 1):
        raise ValueError(f"maam_ops.{op}: x: got shape {tuple(shape)}, expected (B, Cin, H, W), H and W at least 2")
    if tuple(step) != (2,):
        raise ValueError(f"maam_ops.{op}: step: got shape {tuple(step)}, expected (2,): 1 / step and zero")


def check_branches(op: str, count: int, kernels) -> None:
    """Raise unless there are 2 to 8 branches, each with a kernel size that is covered."""
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    if len(kernels) != count or not set(kernels) <= {1, 3, 5, 7}:
        raise ValueError(f"maam_ops.{op}: kernels: got {tuple(kernels)}, expected {count} of 1, 3, 5 or 7")
