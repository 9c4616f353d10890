"""The kernels of an AgentBlock in training on NumPy arrays, every variant against float64."""

import numpy as np
import pytest

from . import native
from .agent_block_case import AgentBlockCase
from .native import _core, capped

ISAS = native.isas("agent_block_forward")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "size", [(2, 2), (2, 3), (3, 2), (5, 4), (7, 9), (8, 8), (32, 32), (33, 31), (6, 270), (150, 3)]
)
def test_image_sizes(isa, size):
    """Pixels that pooling leaves out count in the statistics; tiles and strips overhang."""
    with capped(isa):
        AgentBlockCase((3, 3, *size), offset=1).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kernel", [1, 5, 7])
def test_kernel_sizes(isa, kernel):
    with capped(isa):
        AgentBlockCase((2, 3, 9, 11), kernel=kernel).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs, middle, channels", [(1, 1, 1), (4, 5, 3), (3, 64, 128), (17, 33, 65), (2, 7, 130)])
def test_numbers_of_channels(isa, inputs, middle, channels):
    with capped(isa):
        AgentBlockCase((2, inputs, 10, 12), middle, channels).check()


@pytest.mark.parametrize("isa", ISAS)
def test_images_far_from_zero(isa):
    """The variance survives a mean a hundred times the deviation; the images' last digits bound the rest."""
    with capped(isa):
        AgentBlockCase((3, 3, 12, 12), mean=100.0).check(scale=100)


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads_and_any_run(isa):
    with capped(isa):
        case = AgentBlockCase((5, 3, 34, 38), offset=3)
        seen = set()
        for n in (1, 2, 3, 16, 1):
            with native.threads(n):
                seen.add(b"".join(array.data.tobytes() for array in case.forward() + case.backward()))
        assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
def test_the_first_of_equal_pixels_takes_the_gradient(isa):
    """Constant images: away from the border all pixels of a channel are equal, and windows are ties of four."""
    case = AgentBlockCase((2, 3, 16, 16))
    case.x = case.array(np.full((2, 3, 16, 16), 1.0))
    # A scale of 0 makes ties of windows whose pixels differ.
    case.second[1] = case.array(np.where(np.arange(10) == 4, 0.0, case.second[1].values))
    case.second[2] = case.array(np.where(np.arange(10) == 4, 1.0, case.second[2].values))
    with capped(isa):
        case.forward()
        gradients = [a.values for a in case.backward()]
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # The channel with ties alone: of the others, a rounding may decide which of two neighbours is larger.
    named = {}
    for pixel in (0, 3):
        taken = np.broadcast_to(np.arange(4) == pixel, (*case.da.data.shape, 4))
        named[pixel] = dict(zip(case.gradients, case.expected(taken)[1], strict=True))
    for name, got in zip(case.gradients, gradients, strict=True):
        if name in ("dgamma2", "dbeta2"):
            np.testing.assert_allclose(got[4], named[0][name][4], rtol=1e-5, err_msg=name)
    assert abs(named[3]["dgamma2"][4] - named[0]["dgamma2"][4]) > 0.1  # the last pixel would have shown


@pytest.mark.parametrize("isa", ISAS)
def test_rounding_decides_only_among_maxima_within_rounding(isa):
    """What then separates it from another implementation: the gradient is the exact one of the pixels it took."""
    case = AgentBlockCase((4, 3, 32, 30), 16, 32).mirrored()
    with capped(isa):
        case.forward()
        gradients = dict(zip(case.gradients, case.backward(), strict=True))
    taken = case.taken(fused_multiply_add=isa != "portable")
    windows, exact = case.windows()
    chosen = (windows * taken).sum(-1)
    assert (windows.max(-1) - chosen).max() < 1e-5
    other = (taken != exact).any(-1) & (windows.max(-1) > 0)
    assert other.sum() > 20
    of_exact, of_taken = (case.expected(first)[1] for first in (exact, taken))
    for name, got, expected in zip(case.gradients, gradients.values(), of_taken, strict=True):
        bound = 1e-5 * np.abs(expected).max() + 1e-4 * name.startswith(("dgamma", "dbeta"))
        np.testing.assert_allclose(got.values, expected, rtol=0, atol=bound, err_msg=name)
    dw2 = case.gradients.index("dW2")
    assert np.abs(of_exact[dw2] - of_taken[dw2]).max() > 1e-3 * np.abs(of_exact[dw2]).max()


@pytest.mark.parametrize("isa", ISAS)
def test_a_channel_that_is_never_positive_gets_no_gradient(isa):
    case = AgentBlockCase((2, 3, 8, 8))
    case.second[2] = case.array(np.where(np.arange(10) == 3, -1e3, case.second[2].values))
    with capped(isa):
        case.check()
        assert not case.backward()[3].values[3].any()


@pytest.mark.parametrize("isa", ISAS)
def test_nan_counts_as_not_positive(isa):
    """A NaN in a channel's weight ends at its ReLU: the channel of the results is 0, the others are as they were."""
    case = AgentBlockCase((2, 3, 8, 8))
    with capped(isa):
        before = case.forward()[0].values
        weight = case.second[0].values.copy()
        weight[3, 1, 1, 1] = np.nan
        case.second[0] = case.array(weight)
        after = case.forward()[0].values
    others = np.arange(10) != 3
    np.testing.assert_array_equal(after[:, others], before[:, others])
    assert not after[:, 3].any()


def test_working_memory_of_the_forward_does_not_grow_with_the_images():
    """But for a few sums a strip, nothing of the first convolution is kept."""
    scratch = []
    for batch in (8, 16):
        _core.reset_counters()
        with native.threads(2):
            AgentBlockCase((batch, 3, 32, 32)).forward()
        (row,) = _core.counters().values()
        scratch.append(row["scratch_bytes"])
    assert scratch[1] - scratch[0] < 8 * 10 * 32 * 32 * 4


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 3, 1, 8)))), r"x: got shape 2x3x1x8, expected \(B, C, H, W\)"),
        (lambda c: setattr(c, "x", c.array(np.zeros((2, 4, 8, 8)))), "first weight: got shape 8x3x3x3, expected 8x4"),
        (lambda c: setattr(c, "x", c.array(np.zeros((0, 3, 8, 8)))), "at least two pixels a channel in training"),
        (lambda c: c.second.__setitem__(0, c.array(np.zeros((10, 8, 5, 5)))), "second weight: got shape 10x8x5x5"),
        (lambda c: c.second.__setitem__(1, c.array(np.zeros(7))), "second gamma: got shape 7, expected 10"),
        (lambda c: setattr(c, "da", c.array(np.zeros((2, 10, 4, 5)))), "A: got shape 2x10x4x5, expected 2x10x4x4"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = AgentBlockCase((2, 3, 8, 8))
    change(case)
    with pytest.raises(ValueError, match=message):
        case.forward()
