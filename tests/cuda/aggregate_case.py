"""Random operands of the aggregate and what float64 NumPy says its results are, without the CPU library's oracle."""

from __future__ import annotations

import numpy as np

from tests.maam_ops.arrays import EPSILON, Array, assert_close, compute_epsilon, launch, parameter_dtype


def weights_of(alpha):
    e = np.exp(alpha - alpha.max())
    return e / e.sum()


class Case:
    """Random operands and their exact results."""

    def __init__(self, size, branches, dtype, seed=0, offset=0):
        rng = np.random.default_rng([seed, size, branches])
        self.dtype, self.branches, self.offset = dtype, branches, offset
        self.alpha = Array(rng.standard_normal(branches), parameter_dtype(dtype))
        self.a = [Array(rng.standard_normal(size), dtype, offset) for _ in range(branches)]
        self.dg = Array(rng.standard_normal(size), dtype, offset)
        self.w = weights_of(self.alpha.values)

    def forward(self):
        g = Array.poisoned(self.dg.data.shape, self.dtype, self.offset)
        launch("AggregateForward", [self.alpha, *self.a], [g])
        return g

    def backward(self):
        dalpha = Array.poisoned(self.alpha.data.shape, self.alpha.dtype)
        da = [Array.poisoned(self.dg.data.shape, self.dtype, self.offset) for _ in self.a]
        launch("AggregateBackward", [self.alpha, self.dg, *self.a], [dalpha, *da])
        return dalpha, da

    def check_forward(self):
        terms = [w * a.values for w, a in zip(self.w, self.a, strict=True)]
        magnitude = np.sum(np.abs(terms), axis=0)
        bound = (compute_epsilon(self.dtype) * (self.branches + 4) + EPSILON[self.dtype] / 2) * magnitude
        assert_close(self.forward().values, np.sum(terms, axis=0), bound + tiny(self.dtype), "G")

    def check_backward(self):
        dalpha, da = self.backward()
        dg = self.dg.values
        for w, got in zip(self.w, da, strict=True):
            bound = (compute_epsilon(self.dtype) * (self.branches + 4) + EPSILON[self.dtype] / 2) * np.abs(w * dg)
            assert_close(got.values, w * dg, bound + tiny(self.dtype), "dA")
        dots = np.array([np.dot(dg, a.values) for a in self.a])
        magnitude = max(np.dot(np.abs(dg), np.abs(a.values)) for a in self.a)
        bound = compute_epsilon(self.dtype) * (np.sqrt(dg.size) + self.branches + 8) * magnitude
        assert_close(dalpha.values, self.w * (dots - self.w @ dots), bound, "d alpha")


def tiny(dtype):
    """Half the smallest subnormal step of the dtype."""
    return {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-150, "float64": 0.0}[dtype]
