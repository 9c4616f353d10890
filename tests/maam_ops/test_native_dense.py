"""The dense kernels on NumPy arrays, forward and backward: every variant against float64."""

import numpy as np
import pytest

from . import native
from .dense_case import DenseCase, DenseGradientCase
from .native import Array, capped

ISAS = native.isas("dense_segment")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4, 5, 7, 63, 64, 65, 130])
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (17, 3), (100, 9), (1030, 5)])
def test_sizes_around_blocks(isa, batch, inputs, outputs):
    with capped(isa):
        DenseCase(batch, inputs, outputs, offset=batch % 3).check()


@pytest.mark.parametrize("inputs", [1, 8, 5000])
@pytest.mark.parametrize("batch", [0, 1, 9])
def test_no_outputs(batch, inputs):
    assert DenseCase(batch, inputs, 0).run().data.shape == (batch, 0)
    dx, dweight, dbias = DenseGradientCase(batch, inputs, 0).run()
    assert not dx.data.any() and dweight.data.shape == (0, inputs) and dbias.data.shape == (0,)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_halves_in_any_combination(isa, dtype, weight_dtype):
    with capped(isa):
        for batch in (1, 4, 5, 70):
            DenseCase(batch, 333, 29, dtype, weight_dtype=weight_dtype, relu=batch == 4, offset=batch % 3).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("batch", [2, 9])
def test_halves_are_float32_rounded_once(isa, dtype, batch):
    half = DenseCase(batch, 5000, 30, dtype)
    wide = DenseCase(batch, 5000, 30)
    wide.x, wide.weight = (Array(a.values, "float32") for a in (half.x, half.weight))
    wide.bias = [Array(half.bias[0].values, "float32")]
    with capped(isa):
        np.testing.assert_array_equal(half.run().data, Array(wide.run().values, dtype).data)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs", [1023, 1024, 1025, 4095, 4097, 9000])
def test_lengths_around_segments(isa, inputs):
    with capped(isa):
        DenseCase(2, inputs, 6).check()
        DenseCase(9, inputs, 6).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_bias_and_relu(isa, bias, relu):
    with capped(isa):
        DenseCase(6, 50, 10, bias=bias, relu=relu).check()


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads_and_any_run(isa):
    with capped(isa):
        for batch in (1, 20):
            case = DenseCase(batch, 9001, 30)
            seen = set()
            for n in (1, 2, 3, 16, 1):
                with native.threads(n):
                    seen.add(case.run().data.tobytes())
            assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_depends_neither_on_the_others_nor_on_their_number(isa, dtype):
    case = DenseCase(70, 5000, 7, dtype)
    with capped(isa):
        whole = case.run().data
        values = case.x.values
        for rows in (slice(66, 67), slice(68, 70), slice(1, 4), slice(63, 67), slice(59, 70)):
            case.x = Array(values[rows], dtype)
            case.result_shape = (rows.stop - rows.start, 7)
            np.testing.assert_array_equal(case.run().data, whole[rows])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 8])
def test_integers_are_exact_and_nan_stays_in_its_row(isa, batch):
    case = DenseCase(batch, 1111, 5, relu=True)
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
        (lambda c: setattr(c, "x", Array(np.zeros((2, 10)), "float64")), r"x: got dtype float64, expected float32, "),
        (lambda c: setattr(c, "dtype", "float16"), r"y: got dtype float16, expected float32"),
        (lambda c: setattr(c, "result_shape", (2, 4)), r"y: got shape 2x4, expected 6 elements"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = DenseCase(2, 10, 3)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()


@pytest.mark.parametrize("isa", native.isas("dense_product"))
@pytest.mark.parametrize("batch", [0, 1, 3, 7, 8, 9, 64, 257, 520])
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (15, 3), (47, 8), (49, 9), (100, 10), (300, 260)])
def test_gradients_around_blocks(isa, batch, inputs, outputs):
    with capped(isa):
        DenseGradientCase(batch, inputs, outputs, relu=batch % 2 == 1, offset=batch % 5).check()


@pytest.mark.parametrize("isa", native.isas("dense_product"))
@pytest.mark.parametrize("weight_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_of_halves(isa, dtype, weight_dtype):
    with capped(isa):
        for batch, outputs in ((7, 9), (64, 300), (300, 64)):
            DenseGradientCase(batch, 101, outputs, dtype, weight_dtype=weight_dtype, offset=batch % 3).check()


@pytest.mark.parametrize("isa", native.isas("dense_product"))
@pytest.mark.parametrize("offset", [0, 4, 5])
def test_gradients_past_the_cache(isa, offset):
    """Results of more than 16 MiB, with rows that begin at a cache line, behind one, and never at one."""
    with capped(isa):
        DenseGradientCase(2, 32 * 1024, 128, offset=offset).check()


@pytest.mark.parametrize("isa", native.isas("dense_product"))
def test_gradients_have_the_same_bits_for_any_number_of_threads(isa):
    with capped(isa):
        for case in (DenseGradientCase(70, 2001, 300), DenseGradientCase(2, 32 * 1024, 128, offset=4)):
            seen = set()
            for n in (1, 2, 16):
                with native.threads(n):
                    seen.add(tuple(result.data.tobytes() for result in case.run()))
            assert len(seen) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: setattr(c, "weight", Array(np.zeros((3, 9)), "float32")),
            r"dx: got shape 2x10, expected 18 elements",
        ),
        (
            lambda c: setattr(c, "y", [Array(np.zeros((2, 4)), "float32")]),
            r"y: got shape 2x4, expected the shape of dy",
        ),
        (lambda c: setattr(c, "dy", Array(np.zeros((2, 3)), "float64")), r"dy: got dtype float64, expected float32, "),
        (lambda c: setattr(c, "dtype", "float16"), r"parameter 3: got dtype float16, expected float32"),
    ],
)
def test_bad_arguments_of_gradients_are_named(change, message):
    case = DenseGradientCase(2, 10, 3)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
