"""The kernel of the module with two convolutions a branch on NumPy arrays, every variant against float64."""

import numpy as np
import pytest

from . import native
from .maam_deep_case import MaamDeepCase
from .native import _core, capped

ISAS = native.isas("maam_deep_inference")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "size", [(2, 2), (2, 3), (3, 2), (5, 4), (7, 9), (8, 8), (32, 32), (33, 31), (6, 270), (150, 3)]
)
def test_image_sizes(isa, size):
    """Tiles of four pixels overhang, strips are cut in both directions, rows are shorter than a block of pixels."""
    with capped(isa):
        MaamDeepCase((2, 3, *size), offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(4, 4), (9, 11), (16, 34)])
@pytest.mark.parametrize("kernels", [(1, 1), (5, 5, 5), (7, 1, 3, 5)])
def test_kernel_sizes(isa, kernels, size):
    with capped(isa):
        MaamDeepCase((2, 3, *size), kernels=kernels).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "inputs, middle, channels, outputs",
    [(1, 1, 1, 1), (4, 5, 3, 7), (3, 64, 128, 128), (17, 33, 65, 31), (2, 7, 130, 9)],
)
def test_numbers_of_channels(isa, inputs, middle, channels, outputs):
    with capped(isa):
        MaamDeepCase((1, inputs, 10, 12), middle, channels, outputs).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_halves_in_any_combination(isa, dtype, weight_dtype):
    with capped(isa):
        MaamDeepCase((2, 3, 9, 21), 17, 33, 31, (3, 5, 1), dtype=dtype, weight_dtype=weight_dtype, offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 9])
def test_halves_are_float32_rounded_once(isa, dtype, batch):
    """Whether the weights are packed beforehand or strip by strip."""
    half = MaamDeepCase((batch, 3, 16, 14), dtype=dtype, weight_dtype=dtype)
    wide = MaamDeepCase((batch, 3, 16, 14))
    wide.x = wide.images(half.x.values)
    groups = [[group for branch in case.branches for group in branch] + [case.reduce] for case in (wide, half)]
    for group, stored in zip(*groups, strict=True):
        group[0] = wide.array(stored[0].values)
    with capped(isa), native.threads(2):
        np.testing.assert_array_equal(half.run().data, native.Array(wide.run().values, dtype).data)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", [2, 5, 8])
def test_numbers_of_branches(isa, count):
    with capped(isa):
        MaamDeepCase((1, 3, 8, 8), kernels=(3,) * count).check()


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads_and_any_run(isa):
    """One image is cut into finer strips for more threads; many images are not."""
    with capped(isa):
        for batch in (1, 5):
            case = MaamDeepCase((batch, 3, 34, 30), offset=3)
            seen = set()
            for n in (1, 2, 3, 16, 1):
                with native.threads(n):
                    seen.add(case.run().data.tobytes())
            assert len(seen) == 1


def test_an_image_does_not_depend_on_its_batch():
    case = MaamDeepCase((3, 3, 12, 12))
    whole = case.run().data
    case.x = case.array(case.x.values[1:2])
    case.result_shape = (1, *case.result_shape[1:])
    np.testing.assert_array_equal(case.run().data[0], whole[1])


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_not_positive(isa):
    """A NaN ends at the ReLU behind its convolution, as in MindSpore: it never spreads over a tile."""
    case = MaamDeepCase((2, 3, 8, 8))
    values = case.x.values.copy()
    values[0, 1, 2, 3] = np.nan
    case.x = case.array(values)
    for convolution in case.branches[1]:
        convolution[2] = case.array(np.where(np.arange(convolution[2].data.size) == 2, np.nan, 1.0))
    weight = case.branches[0][1][0].values.copy()
    weight[3, 1, 1, 1] = np.nan
    case.branches[0][1][0] = case.array(weight)
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_branches_that_are_switched_off_count_nothing(isa):
    """alpha far apart: a weight of exactly 0."""
    case = MaamDeepCase((1, 3, 8, 8))
    case.alpha = case.array([0.0, 1e4, 0.0])
    with capped(isa):
        case.check()


def test_an_infinity_stays_within_its_tiles():
    """The transform subtracts pixels of a tile from one another, so that one infinity is felt by all of the tile."""
    case = MaamDeepCase((1, 3, 32, 32))
    before = case.run().values
    values = case.x.values.copy()
    values[0, 0, 1, 1] = np.inf
    case.x = case.array(values)
    after = case.run().values
    assert not np.isnan(after).any()
    np.testing.assert_array_equal(after[:, :, 2:, :], before[:, :, 2:, :])
    np.testing.assert_array_equal(after[:, :, :, 2:], before[:, :, :, 2:])


def test_empty_batch():
    assert MaamDeepCase((0, 3, 8, 8)).run().data.shape == (0, 12, 4, 4)


def test_working_memory_does_not_grow_with_the_batch():
    """Nothing of an image's intermediate results is kept."""
    scratch = []
    for batch in (8, 32):
        _core.reset_counters()
        case = MaamDeepCase((batch, 3, 16, 16))
        with native.threads(2):
            case.run()
        (row,) = _core.counters().values()
        scratch.append(row["scratch_bytes"])
    assert scratch[0] == scratch[1]


def set_second_weight(case, shape):
    case.branches[1][1][0] = case.array(np.zeros(shape))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "alpha", c.array(np.zeros(2))), r"alpha: got shape 2, expected 3 elements"),
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 3, 1, 8)))), r"x: got shape 2x3x1x8, expected \(B, C, H, W\)"),
        (
            lambda c: setattr(c, "x", c.array(np.zeros((2, 4, 8, 8)))),
            r"branch 0 first weight: got shape 8x3x3x3, expected 8x4",
        ),
        (lambda c: set_second_weight(c, (10, 8, 5, 5)), "branch 1 second weight: got shape 10x8x5x5, expected a 3x3"),
        (
            lambda c: set_second_weight(c, (10, 7, 3, 3)),
            "branch 1 second weight: got shape 10x7x3x3, expected 10x8x3x3",
        ),
        (lambda c: c.branches[2][0].__setitem__(1, c.array(np.zeros(7))), "branch 2 first gamma: got shape 7"),
        (lambda c: c.reduce.__setitem__(4, native.Array(np.zeros(12), "float64")), "reduce moving_variance: got dtype"),
        (
            lambda c: setattr(c, "x", native.Array(np.zeros((2, 3, 8, 8)), "float64")),
            "x: got dtype float64, expected float32, float16 or bfloat16",
        ),
        (
            lambda c: c.branches[2][1].__setitem__(0, native.Array(np.zeros((10, 8, 3, 3)), "float64")),
            "branch 2 second weight: got dtype float64, expected float32, float16 or bfloat16",
        ),
        (lambda c: setattr(c, "eps", native.Array(np.zeros(4), "float64")), "eps: got shape 4, expected 7 elements"),
        (lambda c: setattr(c, "result_shape", (2, 12, 4, 5)), "F: got shape 2x12x4x5, expected 2x12x4x4"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = MaamDeepCase((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
