"""The dense kernels on NumPy arrays: every variant against float64."""

import numpy as np
import pytest

from . import native
from .native import EPSILON, Array, assert_close, capped, launch

ISAS = native.isas("dense_segment")


class Case:
    def __init__(self, batch, inputs, outputs, *, bias=True, relu=False, offset=0):
        rng = np.random.default_rng([batch, inputs, outputs])
        self.relu, self.offset = relu, offset
        self.x = Array(rng.standard_normal((batch, inputs)), "float32", offset)
        self.weight = Array(rng.standard_normal((outputs, inputs)), "float32", offset)
        self.bias = [Array(rng.standard_normal(outputs), "float32", offset)] if bias else []
        self.result_shape = (batch, outputs)

    def run(self):
        y = Array.poisoned(self.result_shape, "float32", self.offset)
        launch("DenseForward", [Array([float(self.relu)], "float32"), self.x, self.weight, *self.bias], [y])
        return y

    def check(self):
        x, weight = self.x.values, self.weight.values
        bias = sum(b.values for b in self.bias)
        y = x @ weight.T + bias
        magnitude = np.abs(x) @ np.abs(weight).T + np.abs(bias)
        bound = EPSILON["float32"] * (np.sqrt(x.shape[1]) / 4 + 8) * magnitude
        assert_close(self.run().values, np.maximum(y, 0) if self.relu else y, bound, "y")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4, 5, 7, 63, 64, 65, 130])
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (17, 3), (100, 9), (1030, 5)])
def test_sizes_around_blocks(isa, batch, inputs, outputs):
    with capped(isa):
        Case(batch, inputs, outputs, offset=batch % 3).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs", [1023, 1024, 1025, 4095, 4097, 9000])
def test_lengths_around_segments(isa, inputs):
    with capped(isa):
        Case(2, inputs, 6).check()
        Case(9, inputs, 6).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_bias_and_relu(isa, bias, relu):
    with capped(isa):
        Case(6, 50, 10, bias=bias, relu=relu).check()


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads_and_any_run(isa):
    with capped(isa):
        for batch in (1, 20):
            case = Case(batch, 9001, 30)
            seen = set()
            for n in (1, 2, 3, 16, 1):
                with native.threads(n):
                    seen.add(case.run().data.tobytes())
            assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
def test_a_row_does_not_depend_on_its_batch(isa):
    case = Case(70, 5000, 7)
    with capped(isa):
        whole = case.run().data
        case.x = Array(case.x.values[66:67], "float32")
        case.result_shape = (1, 7)
        np.testing.assert_array_equal(case.run().data[0], whole[66])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 8])
def test_integers_are_exact_and_nan_stays_in_its_row(isa, batch):
    case = Case(batch, 1111, 5, relu=True)
    rng = np.random.default_rng(0)
    case.x = Array(rng.integers(-8, 9, case.x.data.shape), "float32")
    case.weight = Array(rng.integers(-8, 9, case.weight.data.shape), "float32")
    case.bias = [Array(rng.integers(-8, 9, 5), "float32")]
    expected = np.maximum(case.x.values @ case.weight.values.T + case.bias[0].values, 0)
    with capped(isa):
        np.testing.assert_array_equal(case.run().values, expected)
        values = case.x.values.copy()
        values[-1, 1000] = np.nan
        case.x = Array(values, "float32")
        expected[-1] = 0  # ReLU(NaN) = 0
        np.testing.assert_array_equal(case.run().values, expected)
        case.relu = False
        assert np.isnan(case.run().values[-1]).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "weight", Array(np.zeros((3, 9)), "float32")), r"weight: got shape 3x9 for x 2x10"),
        (lambda c: setattr(c, "bias", [Array(np.zeros(4), "float32")]), r"bias: got shape 4, expected 3 elements"),
        (lambda c: setattr(c, "x", Array(np.zeros((2, 10)), "float16")), r"got dtype float16, expected float32"),
        (lambda c: setattr(c, "result_shape", (2, 4)), r"y: got shape 2x4, expected 6 elements"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = Case(2, 10, 3)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
