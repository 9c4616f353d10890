"""The CUDA kernel of the whole module in inference, through its AOT entry point, against float64 NumPy."""

import numpy as np
import pytest

from tests.cuda import emulated
from tests.cuda.emulated import KernelFault
from tests.maam_ops.maam_case import MaamCase


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (7, 9), (16, 16), (17, 19), (6, 34)])
def test_image_sizes(device, size):
    """Odd sizes lose their last row or column in the pooling, but not in the convolution."""
    MaamCase((2, 3, *size), offset=1).check()


@pytest.mark.parametrize("kernels", [(1, 1), (5, 5, 5), (7, 7), (7, 1, 3, 5), (3,) * 8])
def test_kernel_sizes(device, kernels):
    MaamCase((1, 3, 9, 11), kernels=kernels).check()


@pytest.mark.parametrize("inputs, channels, outputs", [(1, 1, 1), (3, 17, 130), (30, 5, 3), (26, 4, 4)])
def test_numbers_of_channels(device, inputs, channels, outputs):
    """More than a block's outputs, more than a pass's channels, more inputs than one patch holds."""
    MaamCase((1, inputs, 5, 6), channels=channels, outputs=outputs, kernels=(3, 7)).check()


@pytest.mark.parametrize("order", emulated.ORDERS[1:])
def test_the_order_of_threads_does_not_show(emulator, order):
    case = MaamCase((1, 30, 6, 7), channels=20, kernels=(3, 5))
    expected = case.run().data.tobytes()
    emulator.order = order
    assert case.run().data.tobytes() == expected


def test_integers_are_exact(device):
    MaamCase.check_integers()


def test_nan_counts_as_not_positive(device):
    MaamCase.check_nan()


def test_empty_batch(device):
    assert MaamCase((0, 3, 8, 8)).run().data.shape == (0, 12, 4, 4)


def test_bad_arguments_are_named(device):
    case = MaamCase((2, 3, 8, 8))
    case.alpha = case.array(np.zeros(2))
    with pytest.raises(KernelFault, match=r"alpha: got shape 2, expected 3 elements"):
        case.run()
