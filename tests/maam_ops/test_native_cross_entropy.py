"""The cross-entropy kernel on NumPy arrays: every variant and dtype against float64."""

import numpy as np
import pytest

from . import native
from .native import DTYPES, EPSILON, Array, assert_close, capped, compute_epsilon, launch, parameter_dtype

ISAS = native.isas("cross_entropy")
IGNORE = -100


class Case:
    def __init__(self, rows, classes, dtype="float32", *, smoothing=0.0, offset=0, ignored=()):
        rng = np.random.default_rng([rows, classes])
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
        assert_close(loss.values, expected_loss, 8 * eps * (1 + np.abs(expected_loss)), "loss")
        count = max((self.labels.data != IGNORE).sum(), 1)
        bound = 8 * eps / count + EPSILON[self.dtype] * np.abs(expected_gradient)
        if self.dtype == "float16":
            bound = bound + 2.0**-24
        assert_close(gradient.values, expected_gradient, bound, "gradient")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 7, 8, 10, 15, 16, 17, 33, 1000])
def test_classes_around_vectors(isa, dtype, classes):
    with capped(isa):
        Case(5, classes, dtype, offset=classes % 3).check()
        Case(6, classes, dtype, smoothing=0.25, ignored=[1, 4], offset=classes % 5).check()


@pytest.mark.parametrize("isa", ISAS)
def test_many_rows_have_the_same_bits_for_any_number_of_threads(isa):
    case = Case(9000, 10, ignored=range(0, 9000, 7))
    with capped(isa):
        case.check()
        seen = set()
        for n in (1, 2, 3, 16, 1):
            with native.threads(n):
                seen.add(tuple(result.data.tobytes() for result in case.run()))
        assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_logits_and_classes_ruled_out(isa, dtype):
    case = Case(3, 5, dtype)
    case.logits = Array([[3e4, -3e4, 0, 1, 2], [-np.inf, 1, 2, -np.inf, 3], [-3e4, -3e4, -3e4, -3e4, -3e4]], dtype)
    case.labels = Array([0, 2, 4], "int32")
    with capped(isa):
        case.check()
        assert case.run()[1].values[1, 0] == 0


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_show(isa, bad):
    case = Case(3, 20)
    values = case.logits.values.copy()
    values[1, 17] = bad
    case.logits = Array(values, "float32")
    with capped(isa):
        loss, gradient = case.run()
    assert np.isnan(loss.values).all() and np.isnan(gradient.values[1]).any()
    assert np.isfinite(gradient.values[[0, 2]]).all()


def test_no_row_that_counts():
    for case in (Case(0, 3), Case(2, 3, ignored=[0, 1])):
        loss, gradient = case.run()
        assert np.isnan(loss.values).all()
        np.testing.assert_array_equal(gradient.values, 0)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "labels", Array([0, 3], "int32")), r"labels: got 3 in row 1, expected 0 to 2, or -100"),
        (lambda c: setattr(c, "labels", Array([-1, 0], "int32")), r"labels: got -1 in row 0, expected 0 to 2"),
        (lambda c: setattr(c, "labels", Array([0, 1, 2], "int32")), r"labels: got shape 3, expected 2 elements"),
        (lambda c: setattr(c, "labels", Array([0, 1], "float32")), r"labels: got dtype float32, expected int32"),
        (lambda c: setattr(c, "logits", Array([[0], [1]], "int32")), r"logits: got dtype int32, expected a float type"),
        (lambda c: setattr(c, "logits", Array([0, 1], "float32")), r"logits: got shape 2, expected \(rows, classes\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = Case(2, 3)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()


def test_integers_are_refused_where_nobody_asked_for_them():
    with pytest.raises(ValueError, match="parameter 1: got dtype int32, expected one of float32, float16"):
        launch("DenseForward", [Array([0], "float32"), Array([[1]], "int32"), Array([[1]], "float32")], [])
