"""Random operands of the dense layer and what NumPy says its result is."""

from __future__ import annotations

import numpy as np

from .native import EPSILON, Array, assert_close, launch


class DenseCase:
    """x, W, and b where there is one."""

    def __init__(self, batch, inputs, outputs, *, bias=True, relu=False, offset=0, seed=0):
        rng = np.random.default_rng([seed, batch, inputs, outputs])
        self.relu, self.offset = relu, offset
        self.x = Array(rng.standard_normal((batch, inputs)), "float32", offset)
        self.weight = Array(rng.standard_normal((outputs, inputs)), "float32", offset)
        self.bias = [Array(rng.standard_normal(outputs), "float32", offset)] if bias else []
        self.result_shape = (batch, outputs)

    def run(self):
        y = Array.poisoned(self.result_shape, "float32", self.offset)
        launch("DenseForward", [Array([float(self.relu)], "float32"), self.x, self.weight, *self.bias], [y])
        return y

    def check(self):
        x, weight = self.x.values, self.weight.values
        bias = sum(b.values for b in self.bias)
        y = x @ weight.T + bias
        magnitude = np.abs(x) @ np.abs(weight).T + np.abs(bias)
        bound = EPSILON["float32"] * (np.sqrt(x.shape[1]) / 4 + 8) * magnitude
        assert_close(self.run().values, np.maximum(y, 0) if self.relu else y, bound, "y")
