"""Random operands of the operators on bytes, and what integer arithmetic in NumPy says their results are: every bit."""

from __future__ import annotations

import numpy as np

from .arrays import Array, launch
from .layers import max_pool

MAX_ACTIVATION = MAX_WEIGHT = 127
BLOCK, QUAD = 16, 4


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def pack(weight: np.ndarray) -> np.ndarray:
    """(outputs, depth) -> (blocks, quads, 16, 4)."""
    outputs, depth = weight.shape
    padded = np.zeros((round_up(outputs, BLOCK), round_up(depth, QUAD)), weight.dtype)
    padded[:outputs, :depth] = weight
    return padded.reshape(-1, BLOCK, padded.shape[1] // QUAD, QUAD).transpose(0, 2, 1, 3)


def requantise(z: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Bytes that stand for max(z, 0) * scale, outputs last, padded to quads."""
    product = np.maximum(z, 0).astype(np.float32) * scale.astype(np.float32)
    bytes_ = np.rint(np.minimum(product, np.float32(MAX_ACTIVATION))).astype(np.int64)
    return np.pad(bytes_, [(0, 0)] * (z.ndim - 1) + [(0, -z.shape[-1] % QUAD)])


def quantise(x: np.ndarray, per_step: float, zero: float) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        value = np.where(np.isnan(x), 0, x).astype(np.float32) * np.float32(per_step) + np.float32(zero)
    return np.rint(np.clip(value, 0, MAX_ACTIVATION)).astype(np.int64)


def scale_of(rng, count: int, z: np.ndarray) -> np.ndarray:
    """What spreads the results over all bytes, some beyond the largest."""
    return rng.uniform(0.5, 1.5, count) * MAX_ACTIVATION / max(1, np.abs(z).max(initial=0))


class DenseInt8Case:
    """x, W, b, scale; ``floats``: the layer without ReLU, whose result are floats."""

    def __init__(self, batch, inputs, outputs, *, floats=False, offset=0, seed=0):
        rng = np.random.default_rng([seed, batch, inputs, outputs])
        inputs = round_up(inputs, QUAD)
        self.floats, self.offset = floats, offset
        self.x = Array(rng.integers(0, MAX_ACTIVATION + 1, (batch, inputs)), "uint8", offset)
        self.weight = rng.integers(-MAX_WEIGHT, MAX_WEIGHT + 1, (outputs, inputs))
        z = self.x.values.astype(np.int64) @ self.weight.T
        self.bias = Array(rng.integers(-1000, 1000, outputs) + int(np.abs(z).max(initial=0)) // 4, "int32", offset)
        self.scale = Array(scale_of(rng, outputs, z), "float32", offset)
        self.packed = Array(pack(self.weight), "int8", offset)
        self.result_shape = (batch, outputs if floats else round_up(outputs, QUAD))

    def run(self):
        y = Array.poisoned(self.result_shape, "float32" if self.floats else "uint8", self.offset)
        launch("DenseInt8Float" if self.floats else "DenseInt8", [self.x, self.packed, self.bias, self.scale], [y])
        return y

    def expected(self):
        x = np.minimum(self.x.values.astype(np.int64), MAX_ACTIVATION)
        z = x @ self.weight.T + self.bias.values.astype(np.int64)
        scale = self.scale.data.astype(np.float32)
        return z.astype(np.float32) * scale if self.floats else requantise(z, scale)

    def check(self):
        np.testing.assert_array_equal(self.run().values, self.expected())


def conv_same_bytes(q: np.ndarray, weight: np.ndarray, zero: int) -> np.ndarray:
    """(B, H, W, Cin), (O, Cin, k, k) -> (B, H, W, O), ``zero`` around the image."""
    kernel = weight.shape[2]
    edge = kernel // 2
    padded = np.pad(q, ((0, 0), (edge, edge), (edge, edge), (0, 0)), constant_values=zero)
    height, width = q.shape[1:3]
    return sum(
        padded[:, y : y + height, x : x + width] @ weight[:, :, y, x].T for y in range(kernel) for x in range(kernel)
    )


def pack_conv(weight: np.ndarray) -> np.ndarray:
    """(O, Cin, k, k) -> packed, the depth in the order row, column, channel."""
    return pack(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1))


def pool_last(z: np.ndarray) -> np.ndarray:
    """2x2, rounded down, channels last."""
    return max_pool(z.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)


class MaamInt8Case:
    """Images and integer parameters of the module whose branches have one convolution."""

    def __init__(self, images, channels=8, outputs=12, kernels=(3, 3, 3), *, zero=37, offset=0, seed=0):
        self.rng = rng = np.random.default_rng([seed, *images, channels, outputs, *kernels])
        self.offset, self.kernels, self.zero = offset, kernels, zero
        self.x = Array(rng.standard_normal(images), "float32", offset)
        self.per_step = 30.0
        self.branches = [self.conv(rng, channels, images[1], kernel) for kernel in kernels]
        self.scale = scale_of(rng, channels, self._sum())
        self.reduce = self.conv(rng, outputs, channels, 1)
        self.reduce_scale = scale_of(rng, outputs, self._reduced())
        self.result_shape = (images[0], images[2] // 2, images[3] // 2, round_up(outputs, QUAD))

    @staticmethod
    def conv(rng, outputs, inputs, kernel):
        weight = rng.integers(-MAX_WEIGHT, MAX_WEIGHT + 1, (outputs, inputs, kernel, kernel))
        return weight, rng.integers(-9000, 9000, outputs)

    def q(self):
        return quantise(self.x.data, self.per_step, self.zero).transpose(0, 2, 3, 1)

    def _branch(self, k):
        weight, bias = self.branches[k]
        return np.maximum(pool_last(conv_same_bytes(self.q(), weight, self.zero)) + bias, 0)

    def _sum(self):
        return sum(self._branch(k) for k in range(len(self.branches)))

    def _reduced(self):
        g = requantise(self._sum(), self.scale)[..., : len(self.scale)]
        weight, bias = self.reduce
        return g @ weight[:, :, 0, 0].T + bias

    def expected(self):
        return requantise(self._reduced(), self.reduce_scale)

    def _convs(self, convs):
        for weight, bias in convs:
            yield Array(pack_conv(weight), "int8", self.offset)
            yield Array(bias, "int32", self.offset)

    def head(self):
        return [self.x, Array([self.per_step, self.zero], "float32"), Array(list(self.kernels), "int32", self.offset)]

    def tail(self):
        scales = [Array(scale, "float32", self.offset) for scale in (self.scale, self.reduce_scale)]
        return [scales[0], *self._convs([self.reduce]), scales[1]]

    def run(self):
        f = Array.poisoned(self.result_shape, "uint8", self.offset)
        launch("MaamInt8", [*self.head(), *self._convs(self.branches), *self.tail()], [f])
        return f

    def check(self):
        np.testing.assert_array_equal(self.run().values, self.expected())


def pack_second(weight: np.ndarray) -> np.ndarray:
    """G' g G'^T of (O, M, 3, 3) as pairs of 16-bit numbers: int32 (blocks, 36, pairs, 16)."""
    g = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
    outputs, middle = weight.shape[:2]
    u = np.einsum("iy,ocyx,jx->ocij", g, weight, g).reshape(outputs, middle, 36)
    padded = np.zeros((round_up(outputs, BLOCK), round_up(middle, QUAD), 36), np.int64)
    padded[:outputs, :middle] = u
    blocks = padded.reshape(-1, BLOCK, padded.shape[1] // 2, 2, 36).transpose(0, 4, 2, 1, 3)
    return np.ascontiguousarray(blocks.astype(np.int16)).view(np.int32)[..., 0]


class MaamDeepInt8Case(MaamInt8Case):
    """The same for branches of two convolutions."""

    def __init__(
        self, images, middle=8, channels=8, outputs=12, kernels=(3, 3, 3), *, zero=37, offset=0, seed=0, extreme=None
    ):
        rng = np.random.default_rng([seed, *images, middle, channels, *kernels])
        self.offset, self.kernels, self.zero = offset, kernels, zero
        self.x = Array(rng.standard_normal(images), "float32", offset)
        self.per_step = 30.0
        self.branches = [self.conv(rng, middle, images[1], kernel) for kernel in kernels]
        self.first_scales = [scale_of(rng, middle, self._first(k)) for k in range(len(kernels))]
        self.seconds = [self.conv(rng, channels, middle, 3) for _ in kernels]
        if extreme is not None:
            extreme(self)
        self.scale = scale_of(rng, channels, self._sum())
        self.reduce = self.conv(rng, outputs, channels, 1)
        self.reduce_scale = scale_of(rng, outputs, self._reduced())
        self.result_shape = (images[0], images[2] // 2, images[3] // 2, round_up(outputs, QUAD))

    def _first(self, k):
        weight, bias = self.branches[k]
        return conv_same_bytes(self.q(), weight, self.zero) + bias

    def middle(self, k):
        return requantise(self._first(k), self.first_scales[k])[..., : len(self.first_scales[k])]

    def _branch(self, k):
        weight, bias = self.seconds[k]
        return np.maximum(pool_last(conv_same_bytes(self.middle(k), weight, 0)) + bias, 0)

    def run(self):
        f = Array.poisoned(self.result_shape, "uint8", self.offset)
        operands = []
        for conv, scale, (weight, bias) in zip(self.branches, self.first_scales, self.seconds, strict=True):
            operands += [*self._convs([conv]), Array(scale, "float32", self.offset)]
            operands += [Array(pack_second(weight), "int32", self.offset), Array(bias, "int32", self.offset)]
        launch("MaamDeepInt8", [*self.head(), *operands, *self.tail()], [f])
        return f
