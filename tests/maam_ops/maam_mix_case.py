"""The module up to its mix: random operands, and what float64 NumPy says of evaluation and of a training step."""

from __future__ import annotations

import numpy as np

from . import oracle
from .layers import (
    EPS,
    BatchNorm,
    conv_input_gradient,
    conv_same,
    conv_weight_gradient,
    first_largest,
    max_pool,
    scatter,
)
from .maam_case import MaamCase
from .native import EPSILON, Array, assert_close, launch


class MaamMixCase(MaamCase):
    """A :class:`MaamCase` without its reduction, dG, and what the four operators read and write."""

    KEEP = 0.75

    def __init__(self, images, channels=8, kernels=(3,), *, offset=0, seed=0):
        super().__init__(images, channels, 1, kernels, offset=offset, seed=seed)
        count = len(kernels)
        self.eps = Array(np.full(count, EPS), "float64")
        self.constants = Array(np.concatenate([self.eps.values, np.full(count, self.KEEP)]), "float64")
        self.result_shape = (images[0], channels, images[2] // 2, images[3] // 2)
        self.dg = self.array(np.random.default_rng(seed).standard_normal(self.result_shape))

    def results(self):
        """Every result of the four operators, by name."""
        groups = [array for group in self.branches for array in group]
        parameters = [self.alpha, *(array for group in self.branches for array in group[:3])]
        evaluated, g = self._result(self.result_shape), self._result(self.result_shape)
        launch("MaamMix", [self.x, self.eps, self.alpha, *groups], [evaluated])
        taps = self.x.data.shape[1] * max(self.kernels) ** 2
        saved = [self._result((taps + 1, taps + 1), "float64")]
        saved.append(self._result((len(self.kernels), *self.result_shape), "uint8"))
        moving = [self._result(group[3].data.shape) for group in self.branches for _ in range(2)]
        launch("MaamMixTraining", [self.x, self.constants, self.alpha, *groups], [g, *saved, *moving])
        saved = [array.frozen() for array in saved]
        gradients = [self._result(array.data.shape) for array in parameters]
        launch("MaamMixBackward", [self.x, self.constants, *parameters, *saved, self.dg], gradients)
        by_norm = [gradients[3 * k + i].frozen() for k in range(len(self.kernels)) for i in (2, 3)]
        dx = self._result(self.x.data.shape)
        launch("MaamMixInputGradient", [self.x, self.constants, *parameters, *saved, self.dg, *by_norm], [dx])
        named = {"G in evaluation": evaluated, "G": g, "pixel": saved[1], "dX": dx}
        named |= {f"moving {i}": array for i, array in enumerate(moving)}
        return named | {f"gradient {i}": array for i, array in enumerate(gradients)}

    def _result(self, shape, dtype="float32"):
        return Array.poisoned(shape, dtype, self.offset)

    def expected(self):
        """The same names and values from the equations."""
        x, dg = self.x.values, self.dg.values
        mix = oracle.softmax(self.alpha.values)
        evaluated, g, dx = 0.0, 0.0, np.zeros_like(x)
        pixels, moving, gradients, dots = [], [], [], []
        for w, group in zip(mix, self.branches, strict=True):
            weight, gamma, beta, mean, variance = (array.values for array in group)
            z = conv_same(x, weight)
            scale = (gamma / np.sqrt(variance + EPS)).reshape(1, -1, 1, 1)
            moved = (z - mean.reshape(1, -1, 1, 1)) * scale + beta.reshape(1, -1, 1, 1)
            evaluated = evaluated + w * max_pool(np.maximum(moved, 0))
            norm = BatchNorm(z, gamma, beta, EPS)
            moving += norm.moving(mean, variance, self.KEEP)
            agent, pixel = first_largest(norm.y)
            g = g + w * agent
            pixels.append(pixel)
            dots.append((dg * agent).sum())
            dc, dgamma, dbeta = norm.backward(scatter(w * dg, pixel, norm.y.shape))
            gradients += [conv_weight_gradient(x, dc, weight.shape[2]), dgamma, dbeta]
            dx += conv_input_gradient(weight, dc)
        gradients.insert(0, mix * (np.array(dots) - mix @ dots))
        named = {"G in evaluation": evaluated, "G": g, "pixel": np.stack(pixels), "dX": dx}
        named |= {f"moving {i}": value for i, value in enumerate(moving)}
        return named | {f"gradient {i}": value for i, value in enumerate(gradients)}

    def check(self, steps=32):
        """As ``MaamTrainingCase.check``."""
        results, expected = self.results(), self.expected()
        summed = np.abs(self.dg.values).sum((0, 2, 3)).max()
        for name, values in expected.items():
            largest = np.abs(values).max()
            scale = max(largest, summed) if name.startswith("gradient") else largest
            bound = 0 if name == "pixel" else steps * EPSILON["float32"] * scale
            assert_close(results[name].values, values, bound, name)
