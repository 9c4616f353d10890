"""The training kernels of the whole module on NumPy arrays: every variant against a float64 oracle of the equations."""

import numpy as np
import pytest

from . import native
from .layers import NO_PIXEL
from .maam_training_case import MaamTrainingCase
from .native import capped

ISAS = native.isas("maam_sums")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(2, 4), (2, 3), (5, 4), (7, 9), (8, 8), (32, 32), (33, 31), (6, 70), (150, 3)])
def test_image_sizes(isa, size):
    """The last row and column of odd sizes are in the statistics, and get a gradient from them alone."""
    with capped(isa):
        MaamTrainingCase((6, 3, *size), offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(4, 4), (9, 11), (16, 34)])
@pytest.mark.parametrize("kernels", [(1, 1), (5, 5, 5), (7, 7), (7, 1, 3, 5), (3, 7)])
def test_kernel_sizes(isa, kernels, size):
    with capped(isa):
        MaamTrainingCase((2, 3, *size), kernels=kernels).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs, channels, outputs", [(1, 1, 1), (4, 5, 3), (3, 64, 128), (16, 6, 33), (2, 131, 7)])
def test_numbers_of_channels(isa, inputs, channels, outputs):
    with capped(isa):
        MaamTrainingCase((2, inputs, 10, 12), channels, outputs).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", range(2, 9))
def test_numbers_of_branches(isa, count):
    with capped(isa):
        MaamTrainingCase((2, 3, 8, 8), kernels=(3,) * count).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 15, 16, 17, 40])
def test_batches(isa, batch):
    """Sums are added up in at most 16 groups of images."""
    with capped(isa):
        MaamTrainingCase((batch, 3, 8, 10)).check()


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads_and_any_run(isa):
    with capped(isa):
        case = MaamTrainingCase((5, 3, 34, 30), offset=3)
        seen = set()
        for n in (1, 2, 3, 16, 1):
            with native.threads(n):
                seen.add(b"".join(array.data.tobytes() for array in case.run().results().values()))
        assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
def test_images_far_from_zero(isa):
    """Statistics of a convolution whose mean is a hundred times its deviation keep their digits."""
    case = MaamTrainingCase((4, 3, 12, 12))
    case.x = case.array(case.x.values + 100)
    for branch in case.branches:  # without an answer to constants, so that only the edges of the image tell
        weight = branch[0].values
        branch[0] = case.array(weight - weight.mean((1, 2, 3), keepdims=True))
    with capped(isa):
        case.check(steps=2000)


@pytest.mark.parametrize("isa", ISAS)
def test_equal_pixels_pass_the_gradient_to_the_first(isa):
    """As MindSpore's max-pool."""
    case = MaamTrainingCase((2, 3, 8, 8), kernels=(1, 1))
    windows = np.random.default_rng(0).standard_normal((2, 3, 4, 1, 4, 1))
    case.x = case.array(np.broadcast_to(windows, (2, 3, 4, 2, 4, 2)).reshape(2, 3, 8, 8))
    with capped(isa):
        case.check()
    assert set(np.unique(case.saved[6].data)) == {0, NO_PIXEL}


@pytest.mark.parametrize("isa", ISAS)
def test_zero_is_not_above_zero(isa):
    """gamma = 0 makes every pixel of a channel beta: no gradient passes at 0, and the first pixel's above."""
    case = MaamTrainingCase((2, 3, 8, 8))
    case.branches[0][1:3] = [case.array(np.zeros(8)), case.array(np.zeros(8))]
    case.branches[1][1:3] = [case.array(np.zeros(8)), case.array(np.ones(8))]
    with capped(isa):
        case.check()
    assert (case.saved[6].data[0] == NO_PIXEL).all() and (case.saved[6].data[1] == 0).all()


@pytest.mark.parametrize("isa", ISAS)
def test_no_variance(isa):
    """One value everywhere: x less its mean is 0, and rstd is that of eps."""
    case = MaamTrainingCase((2, 3, 8, 8), kernels=(1, 1))
    case.x = case.array(np.full((2, 3, 8, 8), 0.5))
    case.reduce[1] = case.array(np.abs(case.reduce[1].values))
    with capped(isa):
        case.run()
    assert all(np.isfinite(array.values).all() for array in case.results().values())
    np.testing.assert_allclose(case.moving[1].values, case.KEEP * case.branches[0][4].values, rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("alpha", [(0.0, 0.0, 0.0), (200.0, -200.0, 0.0)])
def test_equal_and_saturated_alphas(isa, alpha):
    case = MaamTrainingCase((2, 3, 8, 8))
    case.alpha = case.array(np.array(alpha))
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_not_positive(isa):
    """A channel without statistics is 0 behind its ReLU and leaves the others alone."""
    case = MaamTrainingCase((2, 3, 8, 8))
    weight = case.branches[1][0].values.copy()
    weight[2] = np.nan
    case.branches[1][0] = case.array(weight)
    with capped(isa):
        case.forward()
    assert np.isfinite(case.saved[0].values).all()
    assert (case.saved[6].data[1, :, 2] == NO_PIXEL).all() and (case.saved[6].data[1, :, 3] != NO_PIXEL).any()


def test_the_oracle_is_the_derivative_of_the_loss():
    """Central differences of sum(F dF) by every parameter and by X, on the oracle alone."""
    case = MaamTrainingCase((2, 2, 4, 6), channels=3, outputs=4, kernels=(3, 1))
    arrays = [*case.parameters, case.x]
    expected = case.expected()
    gradients = [expected[f"gradient {i}"] for i in range(len(case.parameters))] + [expected["dX"]]
    for array, gradient in zip(arrays, gradients, strict=True):
        array.data = array.data.astype(np.float64)
        array.dtype = "float64"
        flat, step = array.data.reshape(-1), 1e-6
        for i in range(0, flat.size, max(1, flat.size // 7)):
            kept, losses = flat[i], []
            for sign in (1, -1):
                flat[i] = kept + sign * step
                losses.append((case.expected()["F"] * case.df.values).sum())
            flat[i] = kept
            difference = (losses[0] - losses[1]) / (2 * step)
            assert abs(difference - gradient.reshape(-1)[i]) < 1e-6 * max(1, np.abs(gradient).max())


@pytest.mark.parametrize(
    "images, kernels, message",
    [
        ((1, 3, 2, 2), (3, 3), r"x: got 1 pooled pixels a channel, expected at least 2 in training"),
        ((0, 3, 8, 8), (3, 3), r"x: got 0 pooled pixels a channel, expected at least 2 in training"),
        ((2, 17, 8, 8), (3, 3), r"branches: got 153 taps .*, expected at most 147; train these branches as separate"),
        ((2, 3, 8, 8), (3,), r"branches: got 1, expected 2 to 8"),
    ],
)
def test_bad_arguments_are_named(images, kernels, message):
    with pytest.raises(ValueError, match=message):
        MaamTrainingCase(images, kernels=kernels).forward()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_refused(dtype):
    """Read in inference alone."""
    images, weights = (MaamTrainingCase((2, 3, 8, 8)) for _ in range(2))
    images.x = native.Array(images.x.values, dtype)
    weights.branches[1][0] = native.Array(weights.branches[1][0].values, dtype)
    for case, name in ((images, "x"), (weights, "branch 1 weight")):
        with pytest.raises(ValueError, match=f"{name}: got dtype {dtype}, expected float32"):
            case.forward()


def test_wrong_results_of_the_forward_are_named():
    case = MaamTrainingCase((2, 3, 8, 8)).forward()
    case.saved[6] = native.Array(np.zeros((3, 2, 8, 4, 3)), "uint8")
    with pytest.raises(ValueError, match=r"MaamBackward: pixel: got shape 3x2x8x4x3, expected 3x2x8x4x4"):
        case.backward()
