"""The aggregate's CUDA kernels, through their AOT entry points, against the oracle and bounds of the CPU kernels."""

import numpy as np
import pytest

from tests.cuda import emulated
from tests.cuda.emulated import KernelFault
from tests.maam_ops import arrays
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.arrays import Array, launch

SIZES = [0, 1, 2, 3, 7, 8, 15, 17, 63, 1023, 1025, 4096, 8193]


class Case(AggregateCase):
    has_oracle = False


@pytest.mark.parametrize("dtype", arrays.DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 1, 8])
def test_sizes_and_alignments(device, dtype, size, offset):
    Case(size, 3, dtype, offset=offset).check()


@pytest.mark.parametrize("dtype", arrays.DTYPES)
@pytest.mark.parametrize("branches", range(2, 9))
def test_numbers_of_branches(device, dtype, branches):
    Case(4133, branches, dtype).check()


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_arrays_that_are_not_aligned_alike(device, dtype):
    case = Case(3001, 3, dtype)
    case.a[1] = Array(case.a[1].values, dtype, offset=1)
    case.check()


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_same_bits_for_any_alignment_and_any_run(device, dtype):
    seen = set()
    for offset in (0, 1, 3, 8, 0):
        case = Case(9000, 3, dtype, offset=offset)
        dalpha, _ = case.backward()
        seen.add(case.forward().data.tobytes() + dalpha.data.tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("order", emulated.ORDERS)
def test_the_order_of_threads_does_not_show(emulator, order):
    """A barrier too few would, as the emulator runs a thread up to its next one."""
    case = Case(5000, 3, "float32")
    expected = [case.forward().data.tobytes(), case.backward()[0].data.tobytes()]
    emulator.order = order
    assert [case.forward().data.tobytes(), case.backward()[0].data.tobytes()] == expected


@pytest.mark.parametrize("dtype", arrays.DTYPES)
@pytest.mark.parametrize("alpha, w", [([0, -200, -200], [1, 0, 0]), ([5, 5, -200], [0.5, 0.5, 0])])
def test_integers_are_exact(device, dtype, alpha, w):
    Case.check_integers(alpha, w, dtype)


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_special_values_pass_through(device, dtype):
    Case.check_special_values(dtype)


@pytest.mark.parametrize("alpha", [[1e4, -1e4, 0.0], [88.0, 88.0, 88.0], [-3e38, 3e38, 0.0]])
def test_softmax_does_not_overflow(device, alpha):
    case = Case(64, 3, "float32")
    case.alpha = Array(alpha, "float32")
    case.check()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_to_nearest_even(device, dtype):
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.standard_normal(5000) * 10.0 ** rng.integers(-8, 5, 5000), [65519.9, 65520.0]])
    halves = [Array(values, dtype), Array(values[::-1].copy(), dtype)]
    g = Array.poisoned(values.shape, dtype)
    launch("AggregateForward", [Array([0.0, 0.0], "float32"), *halves], [g])
    expected = Array(0.5 * halves[0].values + 0.5 * halves[1].values, dtype)
    np.testing.assert_array_equal(g.data, expected.data)


@pytest.mark.cuda
def test_more_elements_than_an_int_counts(_gpu):
    """Beyond 2^31 elements: 13 GB, made on the device."""
    if not hasattr(_gpu.memory, "torch"):
        pytest.skip("needs PyTorch")
    _gpu.check_large_aggregate(2**31 + 12345)


@pytest.mark.cuda
def test_the_exported_symbol_itself(_gpu):
    """As MindSpore calls it: loaded by name, seven arguments."""
    with arrays.launching(lambda _: _gpu.call_symbol):
        Case(4133, 3, "float32").check()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.a.pop(), r"branches: got 1, expected 2 to 8|alpha: got shape 2"),
        (lambda c: c.a.__setitem__(1, Array(np.zeros(9), "float32")), r"branch 1: got shape 9, expected .* 10"),
        (lambda c: c.a.__setitem__(1, Array(np.zeros(10), "float16")), r"branch 1: got dtype float16"),
        (lambda c: setattr(c, "alpha", Array(np.zeros(3), "float32")), r"alpha: got shape 3, expected 2 elements"),
    ],
)
def test_bad_arguments_are_named(device, change, message):
    case = Case(10, 2, "float32")
    change(case)
    with pytest.raises(KernelFault, match=message):
        case.forward()
