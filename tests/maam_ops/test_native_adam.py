"""The Adam kernel on NumPy arrays: every variant against float64, over several steps."""

import numpy as np
import pytest

from maam_ops import _core

from . import native
from .native import EPSILON, Array, capped

ISAS = native.isas("adam_update")
BETA1, BETA2, EPS, RATE = 0.9, 0.999, 1e-8, 1e-2


class Case:
    """Parameters of these sizes; each step has gradients of its own."""

    def __init__(self, *sizes, nesterov=False, scale=1.0, offset=0):
        self.rng = np.random.default_rng(sizes)
        self.nesterov, self.scale = nesterov, scale
        self.decay = [0.1 * (i % 3) for i in range(len(sizes))]
        self.weights = [Array(self.rng.standard_normal(n), "float32", offset) for n in sizes]
        self.m = [Array(np.zeros(n), "float32", offset) for n in sizes]
        self.v = [Array(np.zeros(n), "float32", offset) for n in sizes]
        self.gradients = [Array(self.rng.standard_normal(n), "float32", offset) for n in sizes]
        self.powers = [Array([1.0], "float32"), Array([1.0], "float32")]
        self.step = Array([0], "int32")

    def run(self):
        constants = Array([BETA1, BETA2, EPS, self.scale, self.nesterov], "float32")
        read = [constants, Array(self.decay, "float32"), Array([RATE], "float32")]
        written = [*self.powers, self.step, *self.weights, *self.m, *self.v]
        rate = Array.poisoned((1,), "float32")
        arrays = [*read, *written, *self.gradients, rate]
        _core.launch("AdamUpdate", [a.data for a in arrays[:-1]], [rate.data], [a.dtype for a in arrays])
        for array in (*read, *self.gradients):
            array.assert_untouched()
        for array in (*written, rate):
            array.assert_guards()

    def state(self):
        return [a.values.copy() for a in (*self.weights, *self.m, *self.v)]


def truth(case, weights, m, v, steps):
    """The same steps in float64, with the constants as float32 has them."""
    beta1, beta2, eps, rate = (float(np.float32(c)) for c in (BETA1, BETA2, EPS, RATE))
    for t in range(1, steps + 1):
        for i, gradient in enumerate(case.gradients):
            g = (gradient.values + float(np.float32(case.decay[i])) * weights[i]) * case.scale
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            direction = beta1 * m[i] + (1 - beta1) * g if case.nesterov else m[i]
            corrected = rate * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            weights[i] = weights[i] - corrected * direction / (np.sqrt(v[i]) + eps)
    return [*weights, *m, *v]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("sizes", [(1,), (3, 4, 5, 7, 8, 9, 15, 16, 17), (0, 70_000, 1, 65_536, 130_001)], ids=str)
def test_steps(isa, nesterov, sizes):
    case = Case(*sizes, nesterov=nesterov, scale=0.5, offset=len(sizes) % 4)
    start = [a.values.copy() for a in case.weights]
    expected = truth(case, start, [0.0 * w for w in start], [0.0 * w for w in start], 3)
    with capped(isa):
        for _ in range(3):
            case.run()
    for got, value in zip(case.state(), expected, strict=True):
        # 1 - beta2 as float32 has 24 - 10 bits: its rounding is that of every implementation in float32.
        np.testing.assert_allclose(got, value, rtol=4e-4, atol=64 * EPSILON["float32"])
    assert case.step.data[0] == 3
    np.testing.assert_allclose([p.values[0] for p in case.powers], [BETA1**3, BETA2**3], rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads(isa):
    seen = set()
    with capped(isa):
        for n in (1, 2, 16):
            case = Case(200_001, 3, 70_000)
            with native.threads(n):
                case.run()
            seen.add(tuple(value.tobytes() for value in case.state()))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: c.gradients.__setitem__(1, Array([0], "float32")),
            r"gradient of parameter 1: got shape 1, expected 4",
        ),
        (
            lambda c: c.m.__setitem__(0, Array(np.zeros(3), "float16")),
            r"first moment of parameter 0: got dtype float16",
        ),
        (lambda c: c.v.pop(), r"arguments: got 14, expected 6, then as many each"),
        (lambda c: c.decay.pop(), r"decay: got shape 1, expected 2 elements"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = Case(3, 4)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
    np.testing.assert_array_equal(case.powers[0].values, 1)
