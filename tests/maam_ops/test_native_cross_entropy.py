"""The cross-entropy kernel on NumPy arrays: every variant and dtype against float64."""

import numpy as np
import pytest

from . import native
from .cross_entropy_case import CrossEntropyCase
from .native import DTYPES, Array, capped, launch

ISAS = native.isas("cross_entropy")


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_whole_numbers_are_no_logits(dtype):
    case = CrossEntropyCase(2, 10)
    case.logits = Array(np.zeros((2, 10)), dtype)
    with pytest.raises(
        ValueError, match=f"CrossEntropy: logits: got dtype {dtype}, expected float32, float16, bfloat16 or float64"
    ):
        case.run()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 7, 8, 10, 15, 16, 17, 33, 1000])
def test_classes_around_vectors(isa, dtype, classes):
    with capped(isa):
        CrossEntropyCase(5, classes, dtype, offset=classes % 3).check()
        CrossEntropyCase(6, classes, dtype, smoothing=0.25, ignored=[1, 4], offset=classes % 5).check()


@pytest.mark.parametrize("isa", ISAS)
def test_many_rows_have_the_same_bits_for_any_number_of_threads(isa):
    case = CrossEntropyCase(9000, 10, ignored=range(0, 9000, 7))
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
    case = CrossEntropyCase(3, 5, dtype)
    case.logits = Array([[3e4, -3e4, 0, 1, 2], [-np.inf, 1, 2, -np.inf, 3], [-3e4, -3e4, -3e4, -3e4, -3e4]], dtype)
    case.labels = Array([0, 2, 4], "int32")
    with capped(isa):
        case.check()
        assert case.run()[1].values[1, 0] == 0


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_show(isa, bad):
    case = CrossEntropyCase(3, 20)
    values = case.logits.values.copy()
    values[1, 17] = bad
    case.logits = Array(values, "float32")
    with capped(isa):
        loss, gradient = case.run()
    assert np.isnan(loss.values).all() and np.isnan(gradient.values[1]).any()
    assert np.isfinite(gradient.values[[0, 2]]).all()


def test_no_row_that_counts():
    for case in (CrossEntropyCase(0, 3), CrossEntropyCase(2, 3, ignored=[0, 1])):
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
        (
            lambda c: setattr(c, "logits", Array([[0], [1]], "int32")),
            r"logits: got dtype int32, expected float32, float16, ",
        ),
        (lambda c: setattr(c, "logits", Array([0, 1], "float32")), r"logits: got shape 2, expected \(rows, classes\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = CrossEntropyCase(2, 3)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()


def test_integers_are_refused_where_nobody_asked_for_them():
    with pytest.raises(ValueError, match="parameter 1: got dtype int32, expected one of float32, float16"):
        launch("DenseForward", [Array([0], "float32"), Array([[1]], "int32"), Array([[1]], "float32")], [])
