"""Random operands of the aggregate and what NumPy, and the C++ oracle with its tolerances, say the results are."""

from __future__ import annotations

import numpy as np

from . import oracle
from .arrays import EPSILON, Array, assert_close, compute_epsilon, launch, parameter_dtype

# Half the smallest subnormal step.
TINY = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-150, "float64": 0.0}


class AggregateCase:
    """Branches of one shape, alpha, and an incoming gradient.

    Attributes:
        has_oracle: whether the library under test has the oracle's entry points.
    """

    has_oracle = True

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

    def stored(self, magnitude):
        """The bound of a weighted sum's error, by the magnitude of its terms, and of storing it."""
        relative = compute_epsilon(self.dtype) * (self.branches + 4) + EPSILON[self.dtype] / 2
        return relative * magnitude + TINY[self.dtype]

    def check_forward(self):
        got, branches = self.forward().values, [a.values for a in self.a]
        expected = oracle.aggregate(self.alpha.values, branches)
        bound = self.stored(oracle.aggregate(self.alpha.values, np.abs(branches)))
        assert_close(got, expected, bound, "G")
        if not self.has_oracle:
            return
        exact, bound = (Array.poisoned(self.dg.data.shape, "float64") for _ in range(2))
        launch("AggregateForwardReference", [self.alpha, *self.a], [exact, bound])
        self._same_oracle(exact.values, expected, bound)
        assert_close(got, exact.values, bound.values, "G against the C++ oracle")

    def check_backward(self):
        branches, dg = [a.values for a in self.a], self.dg.values
        expected_alpha, expected_a = oracle.aggregate_gradients(self.alpha.values, branches, dg)
        dalpha, da = self.backward()
        for got, expected in zip(da, expected_a, strict=True):
            assert_close(got.values, expected, self.stored(np.abs(expected)), "dA")
        steps = np.sqrt(dg.size) + self.branches + 8
        bound = compute_epsilon(self.dtype) * steps * max(np.abs(dg * a).sum() for a in branches)
        assert_close(dalpha.values, expected_alpha, bound, "d alpha")
        if not self.has_oracle:
            return
        dots, all_da = self.alpha.data.shape, (self.branches, *self.dg.data.shape)
        exact_alpha, exact_a, bound_alpha, bound_a = (
            Array.poisoned(shape, "float64") for shape in (dots, all_da, dots, all_da)
        )
        launch(
            "AggregateBackwardReference",
            [self.alpha, self.dg, *self.a],
            [exact_alpha, exact_a, bound_alpha, bound_a],
        )
        self._same_oracle(exact_alpha.values, expected_alpha, bound_alpha)
        self._same_oracle(exact_a.values, np.stack(expected_a), bound_a)
        for got, expected, bound in zip(da, exact_a.values, bound_a.values, strict=True):
            assert_close(got.values, expected, bound, "dA against the C++ oracle")
        assert_close(dalpha.values, exact_alpha.values, bound_alpha.values, "d alpha against the C++ oracle")

    def _same_oracle(self, cpp, numpy, bound):
        """Both are exact but for what double loses; the tolerance says how large the terms are."""
        finer = 1.0 if self.dtype == "float64" else 2.0**-24
        assert_close(cpp, numpy, bound.values * finer + 1e-300, "the C++ oracle")

    # Operands that were chosen, not drawn

    @classmethod
    def check_integers(cls, alpha, w, dtype):
        """Softmax weights ``w`` of ``alpha`` that are exact in binary leave nothing to round."""
        rng = np.random.default_rng(1)
        if dtype == "float64":
            alpha = [4 * value for value in alpha]  # exp(-200) is not zero in float64
        case = cls(777, 3, dtype)
        case.alpha = Array(alpha, parameter_dtype(dtype))
        integers = [rng.integers(-8, 9, 777) for _ in range(4)]
        case.a = [Array(2 * values, dtype) for values in integers[:3]]
        case.dg = Array(2 * integers[3], dtype)
        expected = sum(weight * a.values for weight, a in zip(w, case.a, strict=True))
        np.testing.assert_array_equal(case.forward().values, expected)
        dalpha, da = case.backward()
        dg = case.dg.values
        dots = np.array([dg @ a.values for a in case.a])
        for weight, got in zip(w, da, strict=True):
            np.testing.assert_array_equal(got.values, weight * dg)
        np.testing.assert_array_equal(dalpha.values, w * (dots - np.dot(w, dots)))

    @classmethod
    def check_special_values(cls, dtype):
        """NaN and infinity pass, and only where they stand."""
        first, second = np.ones(40), np.ones(40)
        first[5], second[7] = np.nan, np.inf
        case = cls(40, 2, dtype)
        case.a = [Array(first, dtype), Array(second, dtype)]
        g = case.forward().values
        assert np.isnan(g[5]) and np.isposinf(g[7])
        assert np.isfinite(np.delete(g, [5, 7])).all()
