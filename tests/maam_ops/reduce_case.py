"""Random operands of reduce and aggregate_reduce, and what float64 NumPy says their results are.

A case of one branch is a reduce, of several an aggregate_reduce. Everything expected is computed from the operands as
they are stored, so that what remains is the kernel's own rounding.
"""

from __future__ import annotations

import numpy as np

from . import oracle
from .arrays import EPSILON, Array, assert_close, compute_epsilon, launch, parameter_dtype

EPS, MOMENTUM = 1e-5, 0.9
COLUMN = (1, -1, 1)


class ReduceCase:
    """G, or its branches, of shape (batch, inputs, pixels), and the parameters of the rest.

    Attributes:
        has_oracle: whether the library under test has the oracle's entry points.
    """

    has_oracle = True

    def __init__(self, shape, outputs, dtype="float32", *, branches=1, weight_dtype=None, offset=0, seed=0):
        rng = np.random.default_rng([seed, *shape, outputs, branches])
        self.dtype, self.wide, self.offset = dtype, parameter_dtype(dtype), offset
        self.batch, self.inputs, self.pixels = shape
        self.outputs, self.count = outputs, self.batch * self.pixels
        self.a = [Array(rng.standard_normal(shape) + 0.3, dtype, offset) for _ in range(branches)]
        self.alpha = Array(rng.standard_normal(branches), self.wide)
        weight = rng.standard_normal((outputs, self.inputs)) / np.sqrt(self.inputs)
        self.weight = Array(weight, weight_dtype or dtype, offset)
        self.gamma = self.vector(rng.uniform(0.5, 1.5, outputs) * rng.choice([-1, 1], outputs))
        self.beta = self.vector(rng.standard_normal(outputs))
        self.moving_mean = self.vector(rng.standard_normal(outputs))
        self.moving_variance = self.vector(rng.uniform(0.5, 1.5, outputs))
        self.constants = Array([EPS, MOMENTUM], "float64")
        self.df = rng.standard_normal(self.result_shape)

    def vector(self, values):
        return Array(values, self.wide, self.offset)

    @property
    def result_shape(self):
        return (self.batch, self.outputs, self.pixels)

    @property
    def mix(self):
        return oracle.softmax(self.alpha.values) if len(self.a) > 1 else np.ones(1)

    @property
    def g(self):
        return sum(w * a.values for w, a in zip(self.mix, self.a, strict=True))

    def poisoned(self, shape=None):
        return Array.poisoned(self.result_shape if shape is None else shape, self.dtype, self.offset)

    def launch(self, name, small, arrays, results):
        """The entry point of the operator this case is of; alpha leads the inputs of an aggregate_reduce."""
        if len(self.a) == 1:
            launch(f"Reduce{name}", [*small, *self.a, *arrays], results)
        else:
            launch(f"AggregateReduce{name}", [self.alpha, *small, *arrays, *self.a], results)

    def statistics(self):
        return [self.constants, self.weight, self.gamma, self.beta, self.moving_mean, self.moving_variance]

    # Kernels

    def inference(self):
        f = self.poisoned()
        self.launch("Inference", self.statistics(), [], [f])
        return f

    def training(self):
        """F, Z, mean, rstd, new moving_mean, new moving_variance."""
        results = [self.poisoned(), self.poisoned(), *(self.vector(np.full(self.outputs, np.nan)) for _ in range(4))]
        self.launch("Training", self.statistics(), [], results)
        return results

    def backward(self, trained=None, df=None):
        """Gradients by name, of a training step's results, or with moving statistics."""
        df = Array(self.df if df is None else df, self.dtype, self.offset)
        da = [self.poisoned(self.a[0].data.shape) for _ in self.a]
        dweight = Array.poisoned(self.weight.data.shape, self.weight.dtype, self.offset)
        dgamma, dbeta = (self.vector(np.full(self.outputs, np.nan)) for _ in range(2))
        dalpha = Array.poisoned(self.alpha.data.shape, self.wide)
        if trained is None:
            name, small, arrays = "InferenceBackward", self.statistics(), [df]
        else:
            z, mean, rstd = (Array(array.values, array.dtype, self.offset) for array in trained[1:4])
            name, small, arrays = "Backward", [self.weight, self.gamma, self.beta, mean, rstd], [z, df]
        results = [*da, dweight, dgamma, dbeta] if len(da) == 1 else [dalpha, dweight, dgamma, dbeta, *da]
        self.launch(name, small, arrays, results)
        gradients = {"dweight": dweight, "dgamma": dgamma, "dbeta": dbeta, "da": da}
        return gradients if len(da) == 1 else gradients | {"dalpha": dalpha}

    def bits(self):
        """The bytes of all results: of inference, training, and the gradients by either's statistics."""
        trained = self.training()
        results = [self.inference(), *trained]
        for gradients in (self.backward(), self.backward(trained)):
            results += [*gradients.pop("da"), *gradients.values()]
        return b"".join(array.data.tobytes() for array in results)

    # Checks

    def check(self):
        self.check_inference()
        self.check_backward()
        if self.count > 1:
            self.check_backward(self.check_training())

    @property
    def eps(self):
        return compute_epsilon(self.dtype)

    @property
    def operand_eps(self):
        """What a device's products may lose of each operand; the CPU's take all of it."""
        return 0.0

    def stored(self, values):
        """What storing results of the data type may cost."""
        return EPSILON[self.dtype] / 2 * np.abs(values) + (2.0**-24 if self.dtype == "float16" else 0)

    def product(self):
        """Z and the bound of the error a kernel may make in it before it is stored."""
        weight, g = self.weight.values, self.g
        magnitude = sum(w * np.abs(a.values) for w, a in zip(self.mix, self.a, strict=True))
        relative = self.eps * (self.inputs + len(self.a) + 6) + 2 * self.operand_eps
        bound = relative * oracle.channels(np.abs(weight), magnitude)
        return oracle.channels(weight, g), bound

    def normalized(self, z, mean, rstd):
        """Y and the bound of the error of computing it from these."""
        scale = (self.gamma.values * rstd).reshape(COLUMN)
        mean, beta = mean.reshape(COLUMN), self.beta.values.reshape(COLUMN)
        return (z - mean) * scale + beta, 4 * self.eps * (np.abs((np.abs(z) + np.abs(mean)) * scale) + np.abs(beta))

    def check_inference(self):
        z, z_bound = self.product()
        rstd = 1 / np.sqrt(self.moving_variance.values + EPS)
        y, bound = self.normalized(z, self.moving_mean.values, rstd)
        f = np.maximum(y, 0)
        bound = bound + z_bound * np.abs(self.gamma.values * rstd).reshape(COLUMN)
        got = self.inference().values
        assert_close(got, f, bound + self.stored(f), "F")
        if not self.has_oracle:
            return
        oracle_f, tolerance = (Array.poisoned(self.result_shape, "float64") for _ in range(2))
        self.launch("InferenceReference", self.statistics(), [], [oracle_f, tolerance])
        # The C++ oracle takes the float32 softmax of the kernels; but for that it is as exact as this one.
        exact = 1e-13 * (1 + bound / self.eps) if len(self.a) == 1 else bound
        assert_close(oracle_f.values, f, exact, "the C++ oracle's F")
        assert_close(got, oracle_f.values, tolerance.values, "F against the C++ oracle")

    def check_training(self):
        trained = self.training()
        f, z, mean, rstd, new_mean, new_variance = (array.values for array in trained)
        exact, bound = self.product()
        assert_close(z, exact, bound + self.stored(exact), "Z")
        batch_mean, batch_variance = exact.mean((0, 2)), exact.var((0, 2))
        # One product has the error of its rounding alone, which the differences from the mean inherit.
        one_product = self.inputs * len(self.a) == 1 and not self.operand_eps
        error = (self.eps / 2 * np.abs(exact) if one_product else bound).max((0, 2))
        spread = np.abs(exact - batch_mean.reshape(COLUMN)).max((0, 2)) + np.abs(batch_mean)
        mean_bound = 4 * self.eps * spread + error
        assert_close(mean, batch_mean, mean_bound, "mean")
        variance_bound = 32 * self.eps * batch_variance + 2 * error * (np.sqrt(batch_variance) + error)
        exact_rstd = 1 / np.sqrt(batch_variance + EPS)
        rstd_bound = 4 * self.eps * exact_rstd + variance_bound * exact_rstd**3
        assert_close(rstd, exact_rstd, rstd_bound, "rstd")
        old = self.moving_mean.values, self.moving_variance.values
        unbiased = self.count / (self.count - 1)
        expected = MOMENTUM * old[0] + (1 - MOMENTUM) * batch_mean
        assert_close(new_mean, expected, mean_bound + self.eps * np.abs(old[0]), "moving_mean")
        expected = MOMENTUM * old[1] + (1 - MOMENTUM) * unbiased * batch_variance
        assert_close(new_variance, expected, unbiased * variance_bound + self.eps * expected, "moving_variance")
        y, bound = self.normalized(z, mean, rstd)
        assert_close(f, np.maximum(y, 0), bound + self.stored(y), "F")
        return trained

    def check_backward(self, trained=None):
        """The gradients, with dF set to zero where a rounding decides whether the ReLU passes it."""
        if trained is None:
            z, z_bound = self.product()
            mean, rstd = self.moving_mean.values, 1 / np.sqrt(self.moving_variance.values + EPS)
        else:
            z, mean, rstd = (array.values for array in trained[1:4])
            z_bound = 0
        y, y_bound = self.normalized(z, mean, rstd)
        y_bound = y_bound + z_bound * np.abs(self.gamma.values * rstd).reshape(COLUMN)
        df = Array(np.where(np.abs(y) > y_bound, self.df, 0), self.dtype).values
        got = self.backward(trained, df)

        dy, xhat = np.where(y > 0, df, 0), (z - mean.reshape(COLUMN)) * rstd.reshape(COLUMN)
        dbeta, dgamma = dy.sum((0, 2)), (dy * xhat).sum((0, 2))
        size, chain = np.abs(dy).sum((0, 2)), self.eps * (np.sqrt(self.count) + self.inputs + 16)
        self.close(got["dbeta"], dbeta, chain * size, "d beta")
        largest = np.abs(xhat).max((0, 2), initial=0) + np.abs(mean * rstd)
        recomputed = (np.abs(dy) * z_bound).sum((0, 2)) * rstd
        self.close(got["dgamma"], dgamma, chain * size * largest + recomputed, "d gamma")

        scale = (self.gamma.values * rstd).reshape(COLUMN)
        dz, magnitude = scale * dy, np.abs(scale * dy)
        if trained is not None:
            means = [value.reshape(COLUMN) / self.count for value in (dbeta, dgamma, size)]
            dz = dz - scale * (means[0] + xhat * means[1])
            magnitude = magnitude + np.abs(scale) * means[2] * (1 + (np.abs(xhat) + 1) * largest.reshape(COLUMN))
        g, weight = self.g, self.weight.values
        chain = chain + 2 * self.operand_eps
        bound = chain * oracle.channel_products(magnitude, sum(np.abs(a.values) for a in self.a))
        self.close(got["dweight"], oracle.channel_products(dz, g), bound, "dW")
        dg, chain = oracle.channels(weight.T, dz), chain + self.eps * self.outputs
        bound = chain * oracle.channels(np.abs(weight).T, magnitude)
        for w, da in zip(self.mix, got["da"], strict=True):
            self.close(da, w * dg, w * bound, "dA")
        if "dalpha" in got:
            dots = np.array([(dg * a.values).sum() for a in self.a])
            bound = max((bound * np.abs(a.values)).sum() for a in self.a)
            self.close(got["dalpha"], self.mix * (dots - self.mix @ dots), 4 * bound, "d alpha")

    def close(self, got, expected, bound, what):
        stored = EPSILON[got.dtype] * np.abs(expected) + (2.0**-24 if got.dtype == "float16" else 0)
        assert_close(got.values, expected, bound + stored + 2.0**-140, what)

    # Operands that were chosen, not drawn

    @classmethod
    def check_integers(cls, dtype):
        """Small whole numbers and a scale of 1 leave nothing to round, in any order of summation."""
        rng = np.random.default_rng(1)
        case = cls((3, 6, 50), 7, dtype)
        case.a = [Array(rng.integers(-2, 3, (3, 6, 50)), dtype)]
        case.weight = Array(rng.integers(-2, 3, (7, 6)), dtype)
        case.constants = Array([0, MOMENTUM], "float64")
        ones = np.ones(7)
        case.gamma, case.moving_variance = case.vector(ones), case.vector(ones)
        case.beta, case.moving_mean = case.vector(3 * ones), case.vector(2 * ones)
        df = rng.integers(-2, 3, case.result_shape)
        f, gradients = case.inference(), case.backward(df=df)
        z = np.einsum("oc,bcp->bop", case.weight.values, case.g)
        np.testing.assert_array_equal(f.values, np.maximum(z + 1, 0))
        dz = np.where(z + 1 > 0, df, 0)
        np.testing.assert_array_equal(gradients["dbeta"].values, dz.sum((0, 2)))
        np.testing.assert_array_equal(gradients["dgamma"].values, (dz * (z - 2)).sum((0, 2)))
        np.testing.assert_array_equal(gradients["da"][0].values, np.einsum("oc,bop->bcp", case.weight.values, dz))
        # Sums beyond the range of exact halves are rounded.
        expected = Array(np.einsum("bop,bcp->oc", dz, case.g), dtype)
        np.testing.assert_array_equal(gradients["dweight"].values, expected.values)

    @classmethod
    def check_nan_and_infinity(cls, dtype):
        """A NaN before the ReLU gives 0, as in MindSpore on CPU, and only where it stands; infinity passes."""
        case = cls((1, 1, 70), 1, dtype)
        g = np.ones(70)
        g[[3, 66]] = np.nan
        g[[5, 68]] = np.inf
        case.a = [Array(g.reshape(1, 1, 70), dtype)]
        case.weight = Array([[1.0]], dtype)
        case.gamma = case.vector([1.0])
        f = case.inference().values.ravel()
        gradient = case.backward(df=np.ones((1, 1, 70)))["da"][0].values.ravel()
        assert (f[[3, 66]] == 0).all() and np.isinf(f[[5, 68]]).all()
        assert np.isfinite(np.delete(f, [5, 68])).all()
        assert (gradient[[3, 66]] == 0).all()
