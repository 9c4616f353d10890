"""The kernel of the whole module on bytes, on NumPy arrays: every variant against integer arithmetic, every bit."""

import numpy as np
import pytest

from . import native
from .int8_case import MaamInt8Case
from .native import Array, _core, capped

ISAS = native.isas("maam_int8")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "size", [(2, 2), (2, 3), (3, 2), (5, 4), (7, 9), (8, 8), (32, 32), (33, 31), (6, 70), (150, 3)]
)
def test_image_sizes(isa, size):
    with capped(isa):
        MaamInt8Case((2, 3, *size), offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(4, 4), (9, 11), (16, 34)])
@pytest.mark.parametrize("kernels", [(1, 1), (5, 5, 5), (7, 7), (7, 1, 3, 5), (3, 7)])
def test_kernel_sizes(isa, kernels, size):
    with capped(isa):
        MaamInt8Case((2, 3, *size), kernels=kernels).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs, channels, outputs", [(1, 1, 1), (4, 5, 3), (3, 64, 128), (17, 6, 33), (2, 130, 7)])
def test_numbers_of_channels(isa, inputs, channels, outputs):
    with capped(isa):
        MaamInt8Case((2, inputs, 10, 12), channels, outputs).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", range(2, 9))
def test_numbers_of_branches(isa, count):
    with capped(isa):
        MaamInt8Case((1, 3, 8, 8), kernels=(3,) * count, zero=0).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [0, 1, 3, 5])
def test_same_bits_for_any_number_of_threads_and_any_run(isa, batch):
    with capped(isa):
        case = MaamInt8Case((batch, 3, 34, 30), offset=3)
        for n in (1, 2, 3, 16, 1):
            with native.threads(n):
                case.check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_extremes_do_not_saturate(isa, sign):
    """All bytes of the image and of the weights at their largest."""
    case = MaamInt8Case((2, 3, 8, 8), zero=127)
    case.x = Array(np.full(case.x.data.shape, 1e6), "float32")
    case.branches = [(np.full_like(weight, 127 * sign), bias) for weight, bias in case.branches]
    case.scale[:] = 1e-4
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_zero_and_infinities_as_the_ends_of_the_range(isa):
    case = MaamInt8Case((2, 3, 8, 8))
    values = case.x.values.copy()
    values[0, 1, 2, :3] = np.nan, np.inf, -np.inf
    values[1, 0, 0, :2] = 1e38, -1e38
    case.x = Array(values, "float32")
    with capped(isa):
        case.check()
        got = case.run().values
    case.x = Array(np.nan_to_num(values, nan=0, posinf=1e6, neginf=-1e6), "float32")
    np.testing.assert_array_equal(got, case.expected())


def test_an_image_does_not_depend_on_its_batch():
    case = MaamInt8Case((3, 3, 12, 12))
    whole = case.run().data
    case.x = Array(case.x.values[1:2], "float32")
    case.result_shape = (1, *case.result_shape[1:])
    np.testing.assert_array_equal(case.run().data[0], whole[1])


def test_working_memory_does_not_grow_with_the_batch():
    scratch = []
    for batch in (4, 64):
        _core.reset_counters()
        case = MaamInt8Case((batch, 3, 32, 32))
        with native.threads(2):
            case.run()
        (row,) = _core.counters().values()
        scratch.append(row["scratch_bytes"])
    assert scratch[0] == scratch[1] < 64 * 8 * 16 * 16


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "x", Array(np.zeros((2, 3, 1, 8)), "float32")), r"x: got shape 2x3x1x8, expected \(B, C"),
        (lambda c: setattr(c, "per_step", np.nan), r"1 / step: got nan, expected a positive number"),
        (lambda c: setattr(c, "zero", 127.5), r"zero: got 127\.5\d*, expected a whole number from 0 to 127"),
        (lambda c: setattr(c, "kernels", (3, 4, 3)), r"kernel of branch 1: got 4, expected 1, 3, 5 or 7"),
        (lambda c: setattr(c, "kernels", (3, 3, 5)), r"branch 2 weight: got shape 1x7x16x4, expected 1x19x16x4"),
        (lambda c: setattr(c, "scale", np.ones(7)), r"branch 0 bias: got shape 8, expected 7 elements"),
        (lambda c: setattr(c, "result_shape", (2, 4, 4, 13)), r"F: got shape 2x4x4x13, expected 2x4x4x12"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = MaamInt8Case((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
