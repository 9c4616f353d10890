"""Random operands of the aggregate and what NumPy, and the C++ oracle with its tolerances, say the results are."""

from __future__ import annotations

import numpy as np

from . import oracle
from .native import Array, assert_close, launch, parameter_dtype


class AggregateCase:
    """Branches of one shape, alpha, and an incoming gradient."""

    def __init__(self, shape, branches, dtype, seed=0, offset=0):
        shape = tuple(np.atleast_1d(shape))
        rng = np.random.default_rng([seed, *shape, branches])
        self.dtype, self.branches, self.offset = dtype, branches, offset
        self.alpha = Array(rng.standard_normal(branches), parameter_dtype(dtype))
        self.a = [Array(rng.standard_normal(shape), dtype, offset) for _ in range(branches)]
        self.dg = Array(rng.standard_normal(shape), dtype, offset)

    @property
    def w(self):
        return oracle.softmax(self.alpha.values)

    def forward(self):
        g = Array.poisoned(self.dg.data.shape, self.dtype, self.offset)
        launch("AggregateForward", [self.alpha, *self.a], [g])
        return g

    def backward(self):
        dalpha = Array.poisoned(self.alpha.data.shape, self.alpha.dtype)
        da = [Array.poisoned(self.dg.data.shape, self.dtype, self.offset) for _ in self.a]
        launch("AggregateBackward", [self.alpha, self.dg, *self.a], [dalpha, *da])
        return dalpha, da

    def check(self):
        self.check_forward()
        self.check_backward()

    def check_forward(self):
        exact, bound = (Array.poisoned(self.dg.data.shape, "float64") for _ in range(2))
        launch("AggregateForwardReference", [self.alpha, *self.a], [exact, bound])
        self._same_oracle(exact.values, oracle.aggregate(self.alpha.values, [a.values for a in self.a]), bound)
        assert_close(self.forward().values, exact.values, bound.values, "G")

    def check_backward(self):
        dots, all_da = self.alpha.data.shape, (self.branches, *self.dg.data.shape)
        exact_alpha, exact_a, bound_alpha, bound_a = (
            Array.poisoned(shape, "float64") for shape in (dots, all_da, dots, all_da)
        )
        launch(
            "AggregateBackwardReference",
            [self.alpha, self.dg, *self.a],
            [exact_alpha, exact_a, bound_alpha, bound_a],
        )
        dalpha, da = oracle.aggregate_gradients(self.alpha.values, [a.values for a in self.a], self.dg.values)
        self._same_oracle(exact_alpha.values, dalpha, bound_alpha)
        self._same_oracle(exact_a.values, np.stack(da), bound_a)
        dalpha, da = self.backward()
        for got, expected, bound in zip(da, exact_a.values, bound_a.values, strict=True):
            assert_close(got.values, expected, bound, "dA")
        assert_close(dalpha.values, exact_alpha.values, bound_alpha.values, "d alpha")

    def _same_oracle(self, cpp, numpy, bound):
        """Both are exact but for what double loses; the tolerance says how large the terms are."""
        finer = 1.0 if self.dtype == "float64" else 2.0**-24
        assert_close(cpp, numpy, bound.values * finer + 1e-300, "the C++ oracle")
