"""The kernel of the whole module on NumPy arrays: every variant against a float64 oracle of the equations."""

import numpy as np
import pytest

from . import native
from .maam_case import MaamCase
from .native import _core, capped

ISAS = native.isas("maam_inference")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "size", [(2, 2), (2, 3), (3, 2), (5, 4), (7, 9), (8, 8), (32, 32), (33, 31), (6, 70), (150, 3)]
)
def test_image_sizes(isa, size):
    """Odd sizes lose their last row or column in the pooling, but not in the convolution."""
    with capped(isa):
        MaamCase((2, 3, *size), offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(4, 4), (9, 11), (16, 34)])
@pytest.mark.parametrize("kernels", [(1, 1), (5, 5, 5), (7, 7), (7, 1, 3, 5), (3, 7)])
def test_kernel_sizes(isa, kernels, size):
    with capped(isa):
        MaamCase((2, 3, *size), kernels=kernels).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs, channels, outputs", [(1, 1, 1), (4, 5, 3), (3, 64, 128), (17, 6, 33), (2, 130, 7)])
def test_numbers_of_channels(isa, inputs, channels, outputs):
    with capped(isa):
        MaamCase((2, inputs, 10, 12), channels, outputs).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight_dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_halves_in_any_combination(isa, dtype, weight_dtype):
    with capped(isa):
        MaamCase((2, 3, 9, 21), kernels=(3, 5, 3), dtype=dtype, weight_dtype=weight_dtype, offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_float32_rounded_once(isa, dtype):
    """But where pairs of bfloat16 are multiplied."""
    if dtype == "bfloat16" and isa == "avx512bf16":
        pytest.skip("G is rounded as well")
    half = MaamCase((2, 3, 16, 14), dtype=dtype, weight_dtype=dtype)
    wide = MaamCase((2, 3, 16, 14))
    wide.x = wide.images(half.x.values)
    for group, stored in zip((*wide.branches, wide.reduce), (*half.branches, half.reduce), strict=True):
        group[0] = wide.array(stored[0].values)
    with capped(isa):
        np.testing.assert_array_equal(half.run().data, native.Array(wide.run().values, dtype).data)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(2, 2), (5, 4), (7, 9), (32, 32), (33, 31), (6, 70), (150, 3)])
@pytest.mark.parametrize("kernels", [(3, 3, 3), (5, 1, 3, 5, 7)])
@pytest.mark.parametrize("inputs, channels, outputs", [(1, 1, 1), (3, 64, 128), (4, 5, 3)])
def test_bfloat16_alone(isa, size, kernels, inputs, channels, outputs):
    """Odd numbers of taps and channels leave half a pair empty."""
    case = MaamCase((2, inputs, *size), channels, outputs, kernels, dtype="bfloat16", weight_dtype="bfloat16", offset=1)
    with capped(isa):
        case.check()


def test_the_rounding_of_g_is_to_nearest():
    """Next to a kernel that takes G as it is, errors of either sign: the mean of many results is close."""
    case = MaamCase((4, 3, 16, 16), 64, 32, dtype="bfloat16", weight_dtype="bfloat16", lift=3)
    error = case.run().values - case.expected()
    assert abs(error.mean()) < 1e-2 * np.abs(error).max()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", range(2, 9))
def test_numbers_of_branches(isa, count):
    with capped(isa):
        MaamCase((1, 3, 8, 8), kernels=(3,) * count).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_bits_for_any_number_of_threads_and_any_run(isa, dtype):
    """One image is cut into finer strips for more threads; many images are not."""
    with capped(isa):
        for batch in (1, 5):
            case = MaamCase((batch, 3, 34, 30), dtype=dtype, weight_dtype=dtype, offset=3)
            seen = set()
            for n in (1, 2, 3, 16, 1):
                with native.threads(n):
                    seen.add(case.run().data.tobytes())
            assert len(seen) == 1


def test_an_image_does_not_depend_on_its_batch():
    case = MaamCase((3, 3, 12, 12))
    whole = case.run().data
    case.x = case.array(case.x.values[1:2])
    case.result_shape = (1, *case.result_shape[1:])
    np.testing.assert_array_equal(case.run().data[0], whole[1])


@pytest.mark.parametrize("isa", ISAS)
def test_integers_are_exact(isa):
    with capped(isa):
        MaamCase.check_integers()


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_not_positive(isa):
    with capped(isa):
        MaamCase.check_nan()


def test_empty_batch():
    case = MaamCase((0, 3, 8, 8))
    assert case.run().data.shape == (0, 12, 4, 4)


def test_working_memory_does_not_grow_with_the_batch():
    """Nothing of an image's intermediate results is kept."""
    scratch = []
    for batch in (4, 64):
        _core.reset_counters()
        case = MaamCase((batch, 3, 32, 32))
        with native.threads(2):
            case.run()
        (row,) = _core.counters().values()
        scratch.append(row["scratch_bytes"])
    assert scratch[0] == scratch[1] < 64 * 8 * 16 * 16 * 4


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "alpha", c.array(np.zeros(2))), r"alpha: got shape 2, expected 3 elements"),
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 3, 1, 8)))), r"x: got shape 2x3x1x8, expected \(B, C, H, W\)"),
        (
            lambda c: setattr(c, "x", c.array(np.zeros((2, 4, 8, 8)))),
            r"branch 0 weight: got shape 8x3x3x3, expected 8x4",
        ),
        (
            lambda c: c.branches[1].__setitem__(0, c.array(np.zeros((8, 3, 4, 4)))),
            r"branch 1 weight: got shape 8x3x4x4",
        ),
        (lambda c: c.branches[2].__setitem__(1, c.array(np.zeros(7))), r"branch 2 gamma: got shape 7, expected 8"),
        (
            lambda c: c.reduce.__setitem__(4, native.Array(np.zeros(12), "float64")),
            r"reduce moving_variance: got dtype",
        ),
        (lambda c: setattr(c, "result_shape", (2, 12, 4, 5)), r"F: got shape 2x12x4x5, expected 2x12x4x4"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = MaamCase((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
