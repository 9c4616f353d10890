"""Random operands of the dense layer, forward and backward, and what NumPy says its results are."""

from __future__ import annotations

import numpy as np

from .arrays import within
from .native import EPSILON, Array, assert_close, launch, rounding


class DenseCase:
    """x, W, and b where there is one; y has the dtype of x."""

    def __init__(self, batch, inputs, outputs, dtype="float32", *, weight_dtype=None, bias=True, relu=False, offset=0,
                 seed=0):  # fmt: skip
        rng = np.random.default_rng([seed, batch, inputs, outputs])
        self.relu, self.offset, self.dtype = relu, offset, dtype
        parameters = weight_dtype or dtype
        self.x = Array(rng.standard_normal((batch, inputs)), dtype, offset)
        self.weight = Array(rng.standard_normal((outputs, inputs)), parameters, offset)
        self.bias = [Array(rng.standard_normal(outputs), parameters, offset)] if bias else []
        self.result_shape = (batch, outputs)

    def run(self):
        y = Array.poisoned(self.result_shape, self.dtype, self.offset)
        launch("DenseForward", [Array([float(self.relu)], "float32"), self.x, self.weight, *self.bias], [y])
        return y

    def check(self):
        x, weight = self.x.values, self.weight.values
        bias = sum(b.values for b in self.bias)
        y = x @ weight.T + bias
        magnitude = np.abs(x) @ np.abs(weight).T + np.abs(bias)
        bound = EPSILON["float32"] * (np.sqrt(x.shape[1]) / 4 + 8) * magnitude
        bound = bound + rounding(self.dtype, y)
        assert_close(self.run().values, np.maximum(y, 0) if self.relu else y, bound, "y")


class DenseGradientCase:
    """x, W, dy and, where ReLU was fused, a y with zeros and a NaN in it."""

    def __init__(self, batch, inputs, outputs, dtype="float32", *, weight_dtype=None, relu=True, offset=0, seed=0):
        rng = np.random.default_rng([seed, batch, inputs, outputs])
        self.offset, self.dtype = offset, dtype
        self.x = Array(rng.standard_normal((batch, inputs)), dtype, offset)
        self.weight = Array(rng.standard_normal((outputs, inputs)), weight_dtype or dtype, offset)
        self.dy = Array(rng.standard_normal((batch, outputs)), dtype, offset)
        y = np.maximum(rng.standard_normal((batch, outputs)), 0)
        if y.size > 1:
            y.flat[-1] = np.nan
        self.y = [Array(y, dtype, offset)] if relu else []

    def run(self):
        results = [Array.poisoned(a.data.shape, self.dtype, self.offset) for a in (self.x, self.weight)]
        results.append(Array.poisoned(self.dy.data.shape[-1:], self.dtype, self.offset))
        launch("DenseInputGradient", [self.weight, self.dy, *self.y], results[:1])
        launch("DenseParameterGradients", [self.x, self.dy, *self.y], results[1:])
        return results

    def check(self):
        with np.errstate(invalid="ignore"):
            dy = np.where(self.y[0].values > 0, self.dy.values, 0) if self.y else self.dy.values
        batch, outputs = dy.shape
        rows = [
            ("dx", dy @ self.weight.values, np.abs(dy) @ np.abs(self.weight.values), outputs),
            ("dW", dy.T @ self.x.values, np.abs(dy).T @ np.abs(self.x.values), batch),
            ("db", dy.sum(0), np.abs(dy).sum(0), batch),
        ]
        for got, (name, expected, magnitude, length) in zip(self.run(), rows, strict=True):
            bound = EPSILON["float32"] * (np.sqrt(length) + 4) * magnitude + rounding(self.dtype, expected)
            assert_close(got.values, within(self.dtype, expected), bound, name)
