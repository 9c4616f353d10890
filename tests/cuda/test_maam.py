"""The CUDA kernel of the whole module in inference, through its AOT entry point, against float64 NumPy."""

import numpy as np
import pytest

from tests.cuda import emulated
from tests.cuda.emulated import KernelFault
from tests.maam_ops.arrays import Array
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
    """Softmax weights, scales and shifts that are exact in binary leave nothing to round; scales are negative too."""
    case = MaamCase((2, 3, 9, 8), channels=6, outputs=5, kernels=(3, 5))
    rng = np.random.default_rng(0)
    case.eps = Array(np.zeros(3), "float64")
    case.alpha = case.array([1.0, 1.0])
    case.x = case.array(rng.integers(-4, 5, case.x.data.shape))
    for group in (*case.branches, case.reduce):
        group[0] = case.array(rng.integers(-3, 4, group[0].data.shape))
        group[1] = case.array(rng.choice([-2, 2], group[1].data.shape))
        group[2:4] = [case.array(rng.integers(-9, 10, v.data.shape)) for v in group[2:4]]
        group[4] = case.array(np.full(group[4].data.shape, 4.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.maam_ops.maam_case.EPS", 0.0)
        np.testing.assert_array_equal(case.run().values, case.expected())


def test_nan_counts_as_not_positive(device):
    """ReLU(NaN) = 0 comes before the max-pool and after the 1x1 convolution, as in MindSpore."""
    case = MaamCase((2, 3, 8, 8))
    values = case.x.values.copy()
    values[0, 1, 2, 3] = np.nan
    case.x = case.array(values)
    case.branches[1][2] = case.array(np.where(np.arange(8) == 2, np.nan, 1.0))
    case.check()
    f = case.run().values
    assert np.isfinite(f).all() and (f[0] > 0).any()


def test_empty_batch(device):
    assert MaamCase((0, 3, 8, 8)).run().data.shape == (0, 12, 4, 4)


def test_bad_arguments_are_named(device):
    case = MaamCase((2, 3, 8, 8))
    case.alpha = case.array(np.zeros(2))
    with pytest.raises(KernelFault, match=r"alpha: got shape 2, expected 3 elements"):
        case.run()
