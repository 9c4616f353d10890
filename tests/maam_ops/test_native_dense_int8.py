"""The dense kernels on bytes, on NumPy arrays: every variant against integer arithmetic, every bit."""

import numpy as np
import pytest

from . import native
from .int8_case import DenseInt8Case
from .native import Array, capped

ISAS = native.isas("dense_int8")


@pytest.mark.parametrize("floats", [True, False])
def test_no_outputs(floats):
    assert DenseInt8Case(3, 8, 0, floats=floats).run().data.shape == (3, 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4, 5, 8, 9, 63, 64, 65, 130])
@pytest.mark.parametrize("inputs, outputs", [(4, 1), (20, 3), (100, 16), (1032, 35), (64, 47)])
def test_sizes_around_blocks(isa, batch, inputs, outputs):
    with capped(isa):
        DenseInt8Case(batch, inputs, outputs, floats=batch % 2 == 1, offset=batch % 3).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("inputs", [1020, 1024, 1028, 4100, 9000])
@pytest.mark.parametrize("floats", [False, True])
def test_lengths_around_segments(isa, inputs, floats):
    with capped(isa):
        DenseInt8Case(2, inputs, 6, floats=floats).check()
        DenseInt8Case(9, inputs, 70, floats=floats).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_extremes_do_not_saturate(isa, sign):
    """All activations and weights at their largest: any pair of products is the largest there can be."""
    case = DenseInt8Case(5, 2048, 19, floats=True)
    case.x = Array(np.full(case.x.data.shape, 127), "uint8")
    case.weight = np.full(case.weight.shape, 127 * sign)
    case.packed = Array(
        np.where(np.arange(32).reshape(2, 1, 16, 1) < 19, 127 * sign, np.zeros((2, 512, 16, 4))), "int8"
    )
    with capped(isa):
        case.check()
        np.testing.assert_array_equal(np.sign(case.expected()), sign)


@pytest.mark.parametrize("isa", ISAS)
def test_activations_above_the_largest_count_as_the_largest(isa):
    case = DenseInt8Case(6, 100, 20)
    case.x = Array(np.where(case.x.data > 100, 255, case.x.data), "uint8")
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_ties_round_to_even(isa):
    """Sums 0, 1, 2 ... times one half."""
    case = DenseInt8Case(40, 4, 1)
    case.weight = np.array([[1, 0, 0, 0]])
    case.packed = Array(np.eye(1, 64).reshape(1, 1, 16, 4), "int8")
    case.x = Array(np.arange(160).reshape(40, 4) % 128, "uint8")
    case.bias, case.scale = Array([0], "int32"), Array([0.5], "float32")
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
def test_same_bits_for_any_number_of_threads_and_any_run(isa):
    with capped(isa):
        for batch in (1, 20):
            case = DenseInt8Case(batch, 9000, 70, floats=True)
            for n in (1, 2, 3, 16, 1):
                with native.threads(n):
                    case.check()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: setattr(c, "packed", Array(np.zeros((1, 4, 16, 4)), "int8")), r"weight: got shape 1x4x16x4"),
        (lambda c: setattr(c, "packed", Array(c.packed.data, "uint8")), r"weight: got dtype uint8, expected int8"),
        (lambda c: setattr(c, "x", Array(np.zeros((2, 10)), "uint8")), r"x: got shape 2x10, expected .* multiple of 4"),
        (lambda c: setattr(c, "scale", Array(np.zeros(4), "float32")), r"scale: got shape 4, expected 3 elements"),
        (lambda c: setattr(c, "result_shape", (2, 3)), r"y: got shape 2x3, expected 8 elements"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = DenseInt8Case(2, 12, 3)
    change(case)
    with pytest.raises(ValueError, match=message):
        case.run()
