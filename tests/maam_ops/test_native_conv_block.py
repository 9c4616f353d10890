"""The kernels of a convolution with its normalisation on NumPy arrays, every variant against float64."""

import numpy as np
import pytest

from . import native
from .conv_block_case import ConvBlockCase
from .layers import BatchNorm, conv_same, pool_windows
from .native import capped

ISAS = native.isas("conv_block_forward")
ENDS = [{}, {"pool": True}, {"residual": True}]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("end", ENDS, ids=str)
@pytest.mark.parametrize("size", [(2, 2), (2, 3), (5, 4), (7, 9), (8, 8), (32, 32), (33, 31), (6, 270), (150, 3)])
def test_image_sizes(isa, end, size):
    """Small images go several at a time; pixels that pooling leaves out count in the statistics."""
    with capped(isa):
        ConvBlockCase((5, 3, *size), offset=1, **end).check()


@pytest.mark.parametrize("isa", ISAS)
def test_a_single_row_or_column_needs_no_pool(isa):
    with capped(isa):
        ConvBlockCase((2, 3, 1, 9)).check()
        ConvBlockCase((9, 3, 1, 1)).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("end", ENDS, ids=str)
@pytest.mark.parametrize("inputs, channels", [(1, 1), (4, 5), (64, 128), (33, 65), (130, 7)])
def test_numbers_of_channels(isa, end, inputs, channels):
    with capped(isa):
        ConvBlockCase((3, inputs, 10, 12), channels, **end).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 7, 40])
def test_batches(isa, batch):
    """The last bundle of small images may be short; sums are added up in at most eight groups."""
    with capped(isa):
        ConvBlockCase((batch, 4, 8, 8), residual=True).check()


@pytest.mark.parametrize("isa", ISAS)
def test_images_far_from_zero(isa):
    with capped(isa):
        ConvBlockCase((3, 3, 12, 12), mean=100.0).check(scale=100)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("end", ENDS, ids=str)
def test_same_bits_for_any_number_of_threads_and_any_run(isa, end):
    with capped(isa):
        seen = set()
        for n in (1, 2, 3, 16, 1):
            with native.threads(n):
                case = ConvBlockCase((13, 3, 18, 10), offset=3, **end)
                seen.add(b"".join(array.data.tobytes() for array in case.results().values()))
        assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
def test_the_first_of_equal_pixels_takes_the_gradient(isa):
    """A scale of 0 makes ties of a channel's windows, whatever their pixels are."""
    case = ConvBlockCase((2, 3, 16, 16), pool=True)
    case.operands[1] = case.array(np.where(np.arange(10) == 4, 0.0, case.operands[1].values))
    case.operands[2] = case.array(np.where(np.arange(10) == 4, 1.0, case.operands[2].values))
    with capped(isa):
        case.check()
        results = case.results()
    norm = BatchNorm(conv_same(case.x.values, case.operands[0].values), *(a.values for a in case.operands[1:3]))
    by_pixel = [
        (case.da.values * windows).sum((0, 2, 3))[4] for windows in np.moveaxis(pool_windows(norm.normal), -1, 0)
    ]
    np.testing.assert_allclose(results["dgamma"].values[4], by_pixel[0], rtol=1e-5)
    assert min(abs(other - by_pixel[0]) for other in by_pixel[1:]) > 0.1


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_not_positive(isa):
    """A NaN in a channel's weight ends at its ReLU."""
    case = ConvBlockCase((2, 3, 8, 8))
    with capped(isa):
        before = case.results()["A"].values
        weight = case.operands[0].values.copy()
        weight[3, 1, 1, 1] = np.nan
        case.operands[0] = case.array(weight)
        results = case.results()
    others = np.arange(10) != 3
    for name in ("A", "A in evaluation"):
        assert not results[name].values[:, 3].any()
    np.testing.assert_array_equal(results["A"].values[:, others], before[:, others])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [3e18, 1e19])
def test_a_variance_beyond_float32_is_infinite(isa, size):
    """As in MindSpore, where every result is beta then, and not a finite number that means nothing."""
    case = ConvBlockCase((5, 3, 8, 8))
    case.x = case.array(size * case.x.values)
    case.operands[0] = case.array(20 * case.operands[0].values)
    with capped(isa):
        results = case.results()
    assert np.isinf(results["variance"].values).all()
    beta = np.maximum(case.operands[2].values, 0).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(results["A"].values, np.broadcast_to(beta, results["A"].data.shape))


def test_an_empty_batch_is_empty_in_evaluation():
    assert ConvBlockCase((0, 3, 8, 8), pool=True).evaluate().data.shape == (0, 10, 4, 4)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 0, 8, 8)))), r"x: got shape 2x0x8x8, expected \(B, C, H, W\)"),
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 4, 8, 8)))), "weight: got shape 10x3x3x3, expected 10x4x3x3"),
        (lambda c: setattr(c, "x", c.array(np.zeros((1, 3, 1, 1)))), "at least two pixels a channel in training"),
        (lambda c: c.operands.__setitem__(1, c.array(np.zeros(7))), "gamma: got shape 7, expected 10"),
        (lambda c: setattr(c, "residual", [c.array(np.zeros((2, 10, 8, 7)))]), "residual: got shape 2x10x8x7"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = ConvBlockCase((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.results()
