"""The CUDA kernels of reduce and aggregate_reduce, through their AOT entry points, against float64 NumPy.

With half data the products take operands of the data's type, G and dZ rounded to it as they are where each operator
stores its result, and with MAAM_OPS_TF32 float32 ones cut to eleven bits; the bounds grow by that and by nothing else.
"""

import ctypes
import shutil

import numpy as np
import pytest

from tests.cuda import emulated
from tests.cuda.emulated import KernelFault
from tests.maam_ops import arrays
from tests.maam_ops.arrays import EPSILON, Array, launch
from tests.maam_ops.reduce_case import EPS, MOMENTUM, ReduceCase

# (batch, inputs, pixels), outputs: tiles of 64 (32 for float64) pixels and 128 (64) channels filled and straddled,
# images that packs fit into and that they do not, one channel and many.
SHAPES = [
    ((1, 1, 2), 1),
    ((2, 1, 1), 3),
    ((65, 5, 1), 7),
    ((1, 3, 63), 4),
    ((1, 8, 65), 6),
    ((2, 17, 64), 13),
    ((3, 33, 24), 12),
    ((1, 70, 40), 131),
    ((1, 131, 33), 5),
]


class Case(ReduceCase):
    has_oracle = False
    tf32 = False

    @property
    def operand_eps(self):
        if self.tf32:
            return 2.0**-11
        return EPSILON[self.dtype] / 2 if self.dtype in ("float16", "bfloat16") else 0.0


def check_all(case):
    case.check_inference()
    case.check_backward()
    if case.count > 1:
        case.check_backward(case.check_training())


@pytest.mark.parametrize("dtype", arrays.DTYPES)
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_reduce(device, dtype, shape, outputs):
    check_all(Case(shape, outputs, dtype, offset=shape[2] % 3))


@pytest.mark.parametrize("dtype", arrays.DTYPES)
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_aggregate_reduce(device, dtype, shape, outputs):
    check_all(Case(shape, outputs, dtype, branches=3))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("branches", range(2, 9))
def test_numbers_of_branches(device, dtype, branches):
    check_all(Case((3, 10, 35), 7, dtype, branches=branches, weight_dtype="float32"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float32_weight_beside_half_data(device, dtype):
    check_all(Case((3, 20, 49), 9, dtype, weight_dtype="float32"))


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_many_tiles(device, dtype):
    """More tiles than one block merges, more pixels than one chunk of the gradients."""
    check_all(Case((5, 3, 900), 4, dtype, branches=2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_as_aggregate_then_reduce(device, dtype):
    case = Case((3, 20, 49), 10, dtype, branches=3)
    f, trained = case.inference(), case.training()
    g = Array.poisoned(case.a[0].data.shape, dtype)
    launch("AggregateForward", [case.alpha, *case.a], [g])
    case.a = [Array(g.values, dtype)]
    assert f.data.tobytes() == case.inference().data.tobytes()
    for one, two in zip(trained, case.training(), strict=True):
        assert one.data.tobytes() == two.data.tobytes()


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_same_bits_for_any_alignment_and_any_run(device, dtype):
    cases = [Case((4, 12, 64), 18, dtype, branches=2, offset=offset) for offset in (0, 1, 8, 0)]
    assert len({case.bits() for case in cases}) == 1


@pytest.mark.parametrize("order", emulated.ORDERS[1:])
@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_the_order_of_threads_does_not_show(emulator, dtype, order):
    case = Case((3, 12, 50), 18, dtype, branches=2)
    expected = case.bits()
    emulator.order = order
    assert case.bits() == expected


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_integers_are_exact(device, dtype):
    Case.check_integers(dtype)


@pytest.mark.parametrize("dtype", arrays.DTYPES)
def test_nan_and_infinity(device, dtype):
    Case.check_nan_and_infinity(dtype)


@pytest.mark.parametrize("pixels, outputs", [(1, 3), (63, 5), (256, 2)])
def test_statistics_of_data_far_from_zero(device, pixels, outputs):
    """A mean ten thousand times the deviation: sums of squares as such would leave no digit of the variance."""
    case = Case((70, 1, pixels), outputs)
    case.weight = Array(np.ones((outputs, 1)), "float32")
    case.a = [Array(case.a[0].values + 1e4, "float32")]
    case.check_training()


def test_constant_data_have_no_variance(device):
    case = Case((9, 1, 77), 2)
    case.a = [Array(np.full((9, 1, 77), 0.1), "float32")]
    _, _, _, rstd, _, new_variance = case.training()
    np.testing.assert_allclose(rstd.values, 1 / np.sqrt(EPS), rtol=2e-7)
    np.testing.assert_allclose(new_variance.values, MOMENTUM * case.moving_variance.values, rtol=1e-6)


def test_float32_constants_serve_as_well(device):
    case = Case((2, 3, 20), 4)
    case.constants = Array([EPS, MOMENTUM], "float32")
    check_all(case)


def test_empty_batch(device):
    case = Case((0, 3, 20), 4)
    assert case.inference().data.shape == (0, 4, 20)
    with pytest.raises(KernelFault, match="at least 2 in training"):
        case.training()


def test_tf32_when_asked_for(emulator, tmp_path, monkeypatch):
    """A copy of the library, because the variable is read once."""
    exact = Case((3, 20, 49), 9, branches=3).inference().data.copy()
    monkeypatch.setenv("MAAM_OPS_TF32", "1")
    copy = shutil.copy(emulator.library._name, tmp_path / "tf32.so")
    with arrays.launching(lambda _: emulated.Emulated(ctypes.CDLL(str(copy)))):
        case = Case((3, 20, 49), 9, branches=3)
        case.tf32 = True
        check_all(case)
        assert not np.array_equal(case.inference().data, exact), "TF32 was asked for and not used"
