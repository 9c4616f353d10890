"""Parameters, gradients and state of Adam, and what NumPy says the state becomes."""

from __future__ import annotations

import numpy as np

from .native import EPSILON, Array, assert_close, launch

BETA1, BETA2, EPS, RATE = 0.9, 0.999, 1e-8, 1e-2
RULES = ("plain", "nesterov", "decoupled")


class AdamCase:
    """Parameters of these sizes and their gradients, the same at each step; a decoupled rule knows no scale."""

    constants = (BETA1, BETA2, EPS)
    rate = RATE

    def __init__(self, *sizes, rule="plain", scale=1.0, offset=0, seed=0):
        self.rng = np.random.default_rng([seed, *sizes])
        self.rule, self.scale = rule, 1.0 if rule == "decoupled" else scale
        self.decay = [0.1 * (i % 3) for i in range(len(sizes))]
        self.weights = [Array(self.rng.standard_normal(n), "float32", offset) for n in sizes]
        self.m = [Array(np.zeros(n), "float32", offset) for n in sizes]
        self.v = [Array(np.zeros(n), "float32", offset) for n in sizes]
        self.gradients = [Array(self.rng.standard_normal(n), "float32", offset) for n in sizes]
        self.powers = [Array([1.0], "float32"), Array([1.0], "float32")]
        self.step = Array([0], "int32")

    def run(self):
        if self.rule == "decoupled":
            symbol, constants, powers = "AdamWeightDecay", self.constants, []
        else:
            constants = [*self.constants, self.scale, self.rule == "nesterov"]
            symbol, powers = "AdamUpdate", self.powers
        read = [Array(constants, "float32"), Array(self.decay, "float32"), Array([self.rate], "float32")]
        written = [*powers, self.step, *self.weights, *self.m, *self.v]
        for array in written:
            array.updated = True
        launch(symbol, [*read, *written, *self.gradients], [Array.poisoned((1,), "float32")])

    def state(self):
        return [a.values.copy() for a in (*self.weights, *self.m, *self.v)]

    def check(self, steps=2):
        """State after some steps, from moments of zero."""
        start = [a.values.copy() for a in self.weights]
        expected, doubt = truth(self, list(start), [0.0 * w for w in start], [0.0 * w for w in start], steps)
        for _ in range(steps):
            self.run()
        eps, count = EPSILON["float32"], len(self.weights)
        weights, m, v = (self.state()[i * count : (i + 1) * count] for i in range(3))
        for i, before in enumerate(start):
            g = np.abs(self.gradients[i].values) + self.decay[i] * np.abs(before)
            of_weights, of_m, of_v = doubt[i::count]
            assert_close(m[i], expected[count + i], of_m + 4 * steps * eps * g, "m")
            assert_close(v[i], expected[2 * count + i], of_v + 4 * steps * eps * g * g, "v")
            assert_close(weights[i], expected[i], of_weights + 4 * steps * eps * np.abs(before), "the weights")


def truth(case, weights, m, v, steps):
    """The same steps in float64, with the constants as float32 has them; beside the state what float32 may make of it.

    In 1 - beta2^t, near 0, the rounding of the power counts 1/2000 of 2^24 times as much; and what is rounded in a
    gradient that cancels with its decay is, behind the division by its size, part of a whole step, which the next
    step's decay carries into both moments.
    """
    doubt, m_doubt, v_doubt = ([0.0 * w for w in weights] for _ in range(3))
    beta1, beta2, eps, rate = (float(np.float32(c)) for c in (*case.constants, case.rate))
    for t in range(1, steps + 1):
        for i, gradient in enumerate(case.gradients):
            decay = float(np.float32(case.decay[i])) * weights[i]
            decayed = 0 * decay if case.rule == "decoupled" else decay
            g = (gradient.values + decayed) * case.scale
            cancelled = (np.abs(gradient.values) + np.abs(decayed)) * case.scale / np.maximum(np.abs(g), 1e-30)
            inherited = case.scale * case.decay[i] * doubt[i] * (case.rule != "decoupled")
            m_doubt[i] = beta1 * m_doubt[i] + (1 - beta1) * inherited
            v_doubt[i] = beta2 * v_doubt[i] + (1 - beta2) * inherited * (2 * np.abs(g) + inherited)
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            direction = beta1 * m[i] + (1 - beta1) * g if case.rule == "nesterov" else m[i]
            direction = direction / (np.sqrt(v[i]) + eps)
            if case.rule == "decoupled":
                step = rate * (direction + decay)
                rounded = 16 * EPSILON["float32"] * rate * (np.abs(direction) + np.abs(decay))
            else:
                step = rate * np.sqrt(1 - beta2**t) / (1 - beta1**t) * direction
                rounded = np.abs(step) * (1e-4 + 8 * EPSILON["float32"] * cancelled)
            weights[i] = weights[i] - step
            doubt[i] = doubt[i] + rounded
    return [*weights, *m, *v], [*doubt, *m_doubt, *v_doubt]
