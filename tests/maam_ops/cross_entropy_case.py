"""Random operands of the cross-entropy and what NumPy says loss and gradient are."""

from __future__ import annotations

import numpy as np

from .native import EPSILON, Array, assert_close, compute_epsilon, launch, parameter_dtype

IGNORE = -100


class CrossEntropyCase:
    """Logits, labels of which some do not count, and a smoothing of the latter."""

    def __init__(self, rows, classes, dtype="float32", *, smoothing=0.0, offset=0, ignored=(), seed=0):
        rng = np.random.default_rng([seed, rows, classes])
        self.dtype, self.smoothing, self.offset = dtype, smoothing, offset
        self.logits = Array(3 * rng.standard_normal((rows, classes)), dtype, offset)
        labels = rng.integers(0, classes, rows)
        labels[list(ignored)] = IGNORE
        self.labels = Array(labels, "int32", offset)

    def run(self):
        wide = parameter_dtype(self.dtype)
        loss = Array.poisoned((1,), wide, self.offset)
        gradient = Array.poisoned(self.logits.data.shape, self.dtype, self.offset)
        constants = [Array([self.smoothing], wide), Array([IGNORE], "int32")]
        launch("CrossEntropy", [*constants, self.logits, self.labels], [loss, gradient])
        return loss, gradient

    def expected(self):
        x, labels = self.logits.values, self.labels.data
        counted = labels != IGNORE
        classes = x.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):
            shifted = x - x.max(1, keepdims=True)
            log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
            one_hot = np.arange(classes) == labels[:, None]
            losses = -(1 - self.smoothing) * log_softmax[one_hot]
            if self.smoothing:
                losses -= self.smoothing * log_softmax.mean(1)[counted]
            loss = losses.sum() / counted.sum()
            target = (1 - self.smoothing) * one_hot + self.smoothing / classes
            gradient = np.where(counted[:, None], (np.exp(log_softmax) - target) / counted.sum(), 0)
        return np.array([loss]), gradient

    def check(self):
        loss, gradient = self.run()
        expected_loss, expected_gradient = self.expected()
        eps = compute_epsilon(self.dtype)
        alike = self.logits.data.shape[1] / 4  # equal terms round alike
        steps = 8 + np.sqrt(self.labels.data.size) + alike
        assert_close(loss.values, expected_loss, steps * eps * (1 + np.abs(expected_loss)), "loss")
        count = max((self.labels.data != IGNORE).sum(), 1)
        steps = 8 + alike
        # An exponential makes a relative error of what was rounded in its argument.
        spread = np.ptp(self.logits.values) if np.isfinite(self.logits.values).all() else 0
        bound = steps * eps / count + EPSILON[self.dtype] * np.abs(expected_gradient)
        bound = bound + spread * eps * (np.abs(expected_gradient) + 1 / self.logits.data.shape[1] / count)
        if self.dtype == "float16":
            bound = bound + 2.0**-24
        assert_close(gradient.values, expected_gradient, bound, "gradient")
