"""Random operands of the whole module and what float64 NumPy, written from the equations, says F is."""

from __future__ import annotations

import numpy as np

from . import oracle
from .arrays import EPSILON, Array, assert_close, launch, rounding
from .layers import EPS, conv_same, drawn_conv_norm, max_pool


def _largest_of_tiles(x: np.ndarray) -> np.ndarray:
    """Each pixel by the largest that shares a 4x4 tile with one of its neighbours: 3 pixels away at most."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)))
    return np.max([padded[:, :, y : y + height, z : z + width] for y in range(7) for z in range(7)], axis=0)


def _normalised(x: np.ndarray, operands: list[Array], eps: float, absolute: bool) -> np.ndarray:
    """ReLU(BatchNorm(conv(x))), or a bound of the magnitude of all its terms."""
    take = np.abs if absolute else (lambda values: values)
    weight, gamma, beta, mean, variance = (operand.values for operand in operands)
    scale = gamma / np.sqrt(variance + eps)
    column = (1, -1, 1, 1)
    shift = take(beta) + (np.abs(mean * scale) if absolute else -mean * scale)
    y = conv_same(x, take(weight)) * take(scale).reshape(column) + shift.reshape(column)
    return np.where(y > 0, y, 0)  # ReLU(NaN) = 0


class MaamCase:
    """Images (B, Cin, H, W) and parameters; scales of either sign. F has the dtype of the images."""

    def __init__(
        self, images, channels=8, outputs=12, kernels=(3, 3, 3), *, dtype="float32", weight_dtype="float32", offset=0,
        seed=0, lift=0,
    ):  # fmt: skip
        rng = np.random.default_rng([seed, *images, channels, outputs, *kernels])
        self.offset, self.dtype, self.weight_dtype = offset, dtype, weight_dtype
        self.kernels = kernels
        self.x = self.images(rng.standard_normal(images))
        self.eps = Array(np.full(len(kernels) + 1, EPS), "float64")
        self.alpha = self.array(rng.standard_normal(len(kernels)))
        self.branches = [self._conv_norm(rng, channels, images[1], kernel) for kernel in kernels]
        self.reduce = self._conv_norm(rng, outputs, channels, 1)
        self.reduce[2] = self.array(self.reduce[2].values + lift)  # beta; a high one leaves the ReLU little to cut
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
        return [self.x, self.eps, self.alpha, *(a for group in (*self.branches, self.reduce) for a in group)]

    def run(self):
        f = Array.poisoned(self.result_shape, self.dtype, self.offset)
        launch("MaamInference", self.inputs, [f])
        return f

    def in_pairs(self):
        """Whether the kernel multiplies pairs of bfloat16, which rounds G to that type and takes denormals for 0."""
        weights = [group[0] for group in (*self.branches, self.reduce)]
        if self.dtype != "bfloat16" or any(weight.dtype != "bfloat16" for weight in weights):
            return False
        from tests.kernels import core  # skips where the CPU kernels are not built; the GPU tests run there too

        return core.active_isa() == "avx512bf16"

    def expected(self, absolute=False):
        """F, or a bound of the magnitude of all terms that are summed up to it."""
        return _normalised(self.mixture(absolute), self.reduce, self.eps.data[-1], absolute)

    def mixture(self, absolute=False):
        """G, or the bound.

        A 3x3 convolution goes by Winograd's F(2x2, 3x3): its terms are sums over the 4x4 pixels of a pooled one.
        """
        x = np.abs(self.x.values) if absolute else self.x.values
        spread = _largest_of_tiles(x) if absolute else x
        agents = []
        for kernel, branch, eps in zip(self.kernels, self.branches, self.eps.data[:-1], strict=True):
            agents.append(max_pool(_normalised(spread if kernel == 3 else x, branch, eps, absolute)))
        return oracle.aggregate(self.alpha.values, agents)

    def rounding_of_g(self):
        """What it adds to F: half a unit in the last place of each element, 2^-8 of it, by the weights' magnitudes."""
        if not self.in_pairs():
            return 0.0
        weight, gamma, _, _, variance = (operand.values for operand in self.reduce)
        scale = np.abs(gamma) / np.sqrt(variance + self.eps.data[-1])
        return conv_same(rounding("bfloat16", self.mixture()), np.abs(weight)) * scale.reshape(1, -1, 1, 1)

    def check(self):
        taps = max(branch[0].data[0].size for branch in self.branches)
        steps = np.sqrt(taps) + np.sqrt(self.reduce[0].data[0].size) + len(self.branches) + 8
        expected = self.expected()
        bound = EPSILON["float32"] * steps * self.expected(absolute=True)
        bound = bound + self.rounding_of_g() + rounding(self.dtype, expected)
        assert_close(self.run().values, expected, bound, "F")

    # Operands that were chosen, not drawn

    @classmethod
    def check_integers(cls):
        """Softmax weights, scales of either sign and shifts that are exact in binary leave nothing to round."""
        case = cls((2, 3, 9, 8), channels=6, outputs=5, kernels=(3, 5))
        rng = np.random.default_rng(0)
        case.eps = Array(np.zeros(3), "float64")
        case.alpha = case.array([1.0, 1.0])
        case.x = case.array(rng.integers(-4, 5, case.x.data.shape))
        for group in (*case.branches, case.reduce):
            group[0] = case.array(rng.integers(-3, 4, group[0].data.shape))
            group[1] = case.array(rng.choice([-2, 2], group[1].data.shape))
            group[2:4] = [case.array(rng.integers(-9, 10, v.data.shape)) for v in group[2:4]]
            group[4] = case.array(np.full(group[4].data.shape, 4.0))
        np.testing.assert_array_equal(case.run().values, case.expected())

    @classmethod
    def check_nan(cls):
        """ReLU(NaN) = 0 comes before the max-pool and after the 1x1 convolution, as in MindSpore."""
        case = cls((2, 3, 8, 8))
        values = case.x.values.copy()
        values[0, 1, 2, 3] = np.nan
        case.x = case.array(values)
        case.branches[1][2] = case.array(np.where(np.arange(8) == 2, np.nan, 1.0))
        case.check()
        f = case.run().values
        assert np.isfinite(f).all() and (f[0] > 0).any()
