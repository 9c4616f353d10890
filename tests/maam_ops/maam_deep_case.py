"""Random operands of the module with two convolutions a branch, and what float64 NumPy says F is."""

from __future__ import annotations

import numpy as np

from . import oracle
from .arrays import rounding
from .layers import EPS, conv_same, drawn_conv_norm, max_pool
from .native import Array, launch

# Of the result's root mean square. F(4x4, 3x3) rounds about twice as much as a direct sum.
RMS_BOUND = 2e-6
MAX_BOUND = 2.5e-5


class MaamDeepCase:
    """Images (B, Cin, H, W) and parameters; scales of either sign. F has the dtype of the images."""

    def __init__(
        self, images, middle=8, channels=10, outputs=12, kernels=(3, 3, 3), *, dtype="float32",
        weight_dtype="float32", offset=0, seed=0,
    ):  # fmt: skip
        rng = np.random.default_rng([seed, *images, middle, channels, outputs, *kernels])
        self.offset, self.dtype, self.weight_dtype = offset, dtype, weight_dtype
        self.x = self.images(rng.standard_normal(images))
        self.eps = Array(np.full(2 * len(kernels) + 1, EPS), "float64")
        self.alpha = self.array(rng.standard_normal(len(kernels)))
        self.branches = [
            (self._conv_norm(rng, middle, images[1], kernel), self._conv_norm(rng, channels, middle, 3))
            for kernel in kernels
        ]
        self.reduce = self._conv_norm(rng, outputs, channels, 1)
        self.result_shape = (images[0], outputs, images[2] // 2, images[3] // 2)

    def array(self, values):
        return Array(values, "float32", self.offset)

    def images(self, values):
        return Array(values, self.dtype, self.offset)

    def _conv_norm(self, rng, outputs, inputs, kernel):
        weight, *vectors = drawn_conv_norm(rng, outputs, inputs, kernel)
        return [Array(weight, self.weight_dtype, self.offset), *map(self.array, vectors)]

    @property
    def inputs(self):
        groups = [group for branch in self.branches for group in branch]
        return [self.x, self.eps, self.alpha, *(a for group in (*groups, self.reduce) for a in group)]

    def run(self):
        f = Array.poisoned(self.result_shape, self.dtype, self.offset)
        launch("MaamDeepInference", self.inputs, [f])
        return f

    def expected(self):
        def conv_norm(x, operands):
            weight, gamma, beta, mean, variance = (operand.values for operand in operands)
            scale = (gamma / np.sqrt(variance + EPS)).reshape(1, -1, 1, 1)
            y = (conv_same(x, weight) - mean.reshape(1, -1, 1, 1)) * scale + beta.reshape(1, -1, 1, 1)
            return np.where(y > 0, y, 0)  # ReLU(NaN) = 0

        agents = [max_pool(conv_norm(conv_norm(self.x.values, first), second)) for first, second in self.branches]
        return conv_norm(oracle.aggregate(self.alpha.values, agents), self.reduce)

    def check(self):
        got, expected = self.run().values, self.expected()
        assert np.isfinite(got).all(), "F: not finite"
        unit = np.sqrt((expected**2).mean())
        # What is left behind the last rounding.
        error = np.maximum(np.abs(got - expected) - rounding(self.dtype, expected), 0)
        assert error.max(initial=0) <= MAX_BOUND * unit, f"F: error {error.max():.3g} exceeds {MAX_BOUND * unit:.3g}"
        mean = np.sqrt((error**2).mean())
        assert mean <= RMS_BOUND * unit, f"F: root mean square error {mean:.3g} exceeds {RMS_BOUND * unit:.3g}"
        return mean / unit, error.max() / unit
