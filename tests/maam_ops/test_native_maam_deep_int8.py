"""The kernel of the module whose branches have two convolutions, on bytes: every variant against direct convolutions in
integer arithmetic, every bit, although it computes them by Winograd's transforms."""

import numpy as np
import pytest

from . import native
from .int8_case import MaamDeepInt8Case
from .native import Array, _core, capped

ISAS = native.isas("maam_deep_int8")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (5, 4), (7, 9), (8, 8), (33, 31), (6, 70), (70, 3)])
def test_image_sizes(isa, size):
    with capped(isa):
        MaamDeepInt8Case((2, 3, *size), offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kernels", [(1, 1), (5, 5, 5), (7, 1, 3, 5), (3,) * 8])
def test_kernel_sizes(isa, kernels):
    with capped(isa):
        MaamDeepInt8Case((2, 3, 9, 11), kernels=kernels).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "inputs, middle, channels, outputs",
    [(1, 1, 1, 1), (4, 5, 6, 3), (3, 64, 128, 128), (17, 6, 33, 7), (2, 33, 20, 50), (1, 231, 17, 3)],
)
def test_numbers_of_channels(isa, inputs, middle, channels, outputs):
    with capped(isa):
        MaamDeepInt8Case((2, inputs, 10, 12), middle, channels, outputs).check()


def _largest(sign):
    """All weights and activations of the second convolution at their largest, so that its sums are too."""

    def change(case):
        case.x = Array(np.full(case.x.data.shape, 1e6), "float32")
        case.branches = [(np.full_like(weight, 127), np.full_like(bias, 10**6)) for weight, bias in case.branches]
        case.first_scales = [np.ones_like(scale) for scale in case.first_scales]
        case.seconds = [(np.full_like(weight, 127 * sign), bias + 3 * 10**7) for weight, bias in case.seconds]

    return change


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_come_back_from_wrapping_around(isa, sign):
    """With as many channels as there may be; 576 times such a sum needs 35 bits."""
    with capped(isa):
        case = MaamDeepInt8Case((1, 1, 8, 8), 231, 3, 5, (3, 3), extreme=_largest(sign))
        assert (case.middle(0) == 127).all()
        case.check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [0, 1, 3, 5])
def test_same_bits_for_any_number_of_threads_and_any_run(isa, batch):
    with capped(isa):
        case = MaamDeepInt8Case((batch, 3, 34, 30), offset=3)
        for n in (1, 2, 3, 16, 1):
            with native.threads(n):
                case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_zero_and_infinities_as_the_ends_of_the_range(isa):
    case = MaamDeepInt8Case((2, 3, 8, 8))
    values = case.x.values.copy()
    values[0, 1, 2, :3] = np.nan, np.inf, -np.inf
    case.x = Array(values, "float32")
    with capped(isa):
        case.check()


def test_working_memory_does_not_grow_with_the_batch():
    scratch = []
    for batch in (4, 16):
        _core.reset_counters()
        case = MaamDeepInt8Case((batch, 3, 32, 32))
        with native.threads(2):
            case.run()
        (row,) = _core.counters().values()
        scratch.append(row["scratch_bytes"])
    assert scratch[0] == scratch[1]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "kernels", (3, 3, 5)), r"branch 2 first weight: got shape 1x7x16x4, expected 1x19x16x4"),
        (
            lambda c: c.first_scales.__setitem__(1, np.ones(7)),
            r"branch 1 first scale: got shape 7, expected 8 elements",
        ),
        (
            lambda c: c.seconds.__setitem__(1, (np.ones((8, 12, 3, 3), int), np.ones(8))),
            r"branch 1 second weight: got shape 1x36x6x16, expected 1x36x4x16",
        ),
        (
            lambda c: c.seconds.__setitem__(0, (c.seconds[0][0], np.ones(7))),
            r"branch 0 second bias: got shape 7, expected 8 elements",
        ),
        (lambda c: setattr(c, "result_shape", (2, 4, 4, 16)), r"F: got shape 2x4x4x16, expected 2x4x4x12"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = MaamDeepInt8Case((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()


def test_too_many_channels_between_the_convolutions():
    with pytest.raises(ValueError, match="channels between the convolutions: got 232, expected at most 231"):
        MaamDeepInt8Case((1, 1, 4, 4), 232, 1, 1, (1, 1)).run()
