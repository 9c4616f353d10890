"""The kernels of the module up to its mix on NumPy arrays: every variant against float64."""

import numpy as np
import pytest

from . import native
from .maam_mix_case import MaamMixCase
from .native import capped

ISAS = native.isas("maam_mix")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kernels", [(3,), (7,), (3, 3), (1, 3, 5, 7), (3,) * 8])
def test_numbers_and_sizes_of_branches(isa, kernels):
    with capped(isa):
        MaamMixCase((2, 3, 9, 11), kernels=kernels).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [(2, 2), (7, 9), (32, 32), (6, 70)])
def test_image_sizes(isa, size):
    with capped(isa):
        MaamMixCase((6, 3, *size), channels=13, offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "images, kernel",
    [
        ((3, 3, 2, 2), 7),  # smaller than the kernel's edge
        ((2, 3, 3, 5), 7),
        ((1, 3, 90, 80), 7),  # several strips and tiles, down
        ((1, 2, 5, 1100), 5),  # tiles across
        ((2, 49, 30, 20), 1),
        ((2, 16, 33, 18), 3),
    ],
)
def test_images_in_strips_and_tiles(isa, images, kernel):
    with capped(isa):
        MaamMixCase(images, channels=5, kernels=(kernel,)).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kept", [0.0, 0.1, 1.0])
def test_gradients_of_zero_are_left_out(isa, kept):
    case = MaamMixCase((3, 3, 18, 22), kernels=(3, 5))
    chosen = np.random.default_rng(1).random(case.dg.values.shape) < kept
    case.dg = case.array(np.where(chosen, case.dg.values, 0))
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_a_gradient_that_is_nan_reaches_its_channel_alone(isa):
    case = MaamMixCase((2, 3, 12, 12), kernels=(3,))
    values = case.dg.values.copy()
    with capped(isa):
        noted = case.results()["pixel"].values[0]
        at = tuple(np.argwhere(noted < 4)[0])
        values[at] = np.nan
        case.dg = case.array(values)
        weight = case.results()["gradient 1"].values
    channel = np.arange(weight.shape[0]) == at[1]
    assert np.isnan(weight[channel]).all() and np.isfinite(weight[~channel]).all()


def test_one_branch_has_no_weight_to_learn():
    gradient = MaamMixCase((2, 3, 8, 8)).results()["gradient 0"].values
    assert gradient.shape == (1,) and gradient[0] == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 3, 1, 8)))), r"x: got shape 2x3x1x8, expected \(B, C, H, W\)"),
        (lambda c: setattr(c, "alpha", c.array(np.zeros(2))), "alpha: got shape 2, expected 1 elements"),
        (lambda c: setattr(c, "result_shape", (2, 8, 4, 5)), "G: got shape 2x8x4x5, expected 2x8x4x4"),
        (lambda c: setattr(c, "x", native.Array(c.x.values, "float16")), "x: got dtype float16, expected float32"),
        (
            lambda c: c.branches[0].__setitem__(0, native.Array(c.branches[0][0].values, "bfloat16")),
            "branch 0 weight: got dtype bfloat16, expected float32",
        ),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = MaamMixCase((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.results()
