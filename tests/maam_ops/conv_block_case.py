"""conv3x3, normalisation, ReLU and max-pool or residual: random operands, and what float64 NumPy says."""

from __future__ import annotations

import numpy as np

from .agent_block_case import BLOCK, MAX_BOUND, RMS_BOUND, SUM_BOUND
from .layers import (
    EPS,
    BatchNorm,
    conv_input_gradient,
    conv_same,
    conv_weight_gradient,
    drawn_conv_norm,
    pool_windows,
    scatter,
)
from .native import Array, launch

MOMENTUM = 0.9


class ConvBlockCase:
    """Images (B, Cin, H, W), parameters with scales of either sign, a residual where wanted, and dA."""

    def __init__(self, images, channels=10, *, pool=False, residual=False, offset=0, seed=0, mean=0.0):
        rng = np.random.default_rng([seed, *images, channels])
        self.offset, self.channels, self.pool = offset, channels, pool
        batch, inputs, height, width = images
        self.x = self.array(rng.standard_normal(images) + mean)
        self.constants = Array(np.array([EPS, MOMENTUM, *[1] * pool]), "float64")
        self.operands = [*map(self.array, drawn_conv_norm(rng, channels, inputs, 3))]
        self.shape = (batch, channels, height // 2, width // 2) if pool else (batch, channels, height, width)
        self.residual = [self.array(rng.standard_normal(self.shape))] if residual else []
        self.da = self.array(rng.standard_normal(self.shape))

    def array(self, values):
        return Array(values, "float32", self.offset)

    def _result(self, shape, dtype="float32"):
        return Array.poisoned(shape, dtype, self.offset if dtype == "float32" else 0)

    def evaluate(self):
        a = self._result(self.shape)
        launch("ConvBlockInference", [self.x, self.constants, *self.operands, *self.residual], [a])
        return a

    def results(self):
        """Every result of the three operators, by name."""
        batch, _, height, width = self.x.data.shape
        blocks, vector = -(-self.channels // BLOCK), (self.channels,)
        pooled = (batch, blocks, height // 2, width // 2, BLOCK) if self.pool else (1,) * 5
        saved = [self._result((batch, blocks, height, width, BLOCK)), self._result(pooled)]
        saved.append(self._result((2, self.channels), "float64"))
        a, new = self._result(self.shape), [self._result(vector) for _ in range(2)]
        inputs = [self.x, self.constants, *self.operands]
        launch("ConvBlockForward", [*inputs, *self.residual], [a, *saved, *new])
        shapes = [self.operands[0].data.shape, vector, vector, self.x.data.shape]
        gradients = [self._result(shape) for shape in shapes]
        launch("ConvBlockBackward", [*inputs[:5], *(array.frozen() for array in saved), self.da], gradients)
        named = {"A in evaluation": self.evaluate(), "A": a, "mean": new[0], "variance": new[1]}
        return named | dict(zip(("dW", "dgamma", "dbeta", "dX"), gradients, strict=True))

    def expected(self):
        """The same names and values from the equations."""
        x, da = self.x.values, self.da.values
        weight, gamma, beta, mean, variance = (array.values for array in self.operands)
        z = conv_same(x, weight)
        residual = self.residual[0].values if self.residual else 0

        def end(y):
            y = np.where(y > 0, y, 0)
            return pool_windows(y).max(-1) if self.pool else y + residual

        scale = gamma / np.sqrt(variance + EPS)
        moved = (z - mean.reshape(1, -1, 1, 1)) * scale.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1)
        norm = BatchNorm(z, gamma, beta, EPS)
        new = norm.moving(mean, variance, MOMENTUM)
        dy = scatter(da, pool_windows(norm.y).argmax(-1), z.shape) if self.pool else da
        dz, dgamma, dbeta = norm.backward(np.where(norm.y > 0, dy, 0))
        dx = conv_input_gradient(weight, dz)
        named = {"A in evaluation": end(moved), "A": end(norm.y), "mean": new[0], "variance": new[1]}
        return named | {"dW": conv_weight_gradient(x, dz, 3), "dgamma": dgamma, "dbeta": dbeta, "dX": dx}

    def check(self, scale=1.0):
        results, expected = self.results(), self.expected()
        for name, values in expected.items():
            error, unit = results[name].values - values, np.sqrt((values**2).mean())
            assert np.isfinite(results[name].values).all(), name
            worst = np.sqrt((error**2).mean()) / unit, np.abs(error).max() / unit
            rms_bound = SUM_BOUND if name in ("dgamma", "dbeta") else RMS_BOUND
            assert worst[0] <= scale * rms_bound and worst[1] <= scale * MAX_BOUND, (name, worst)
