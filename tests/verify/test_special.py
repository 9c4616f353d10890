"""Special values and sizes: NaN, infinities, the smallest numbers, zeros of either sign, constant and single elements,
empty tensors, and more elements than 32 bits count."""

import ctypes
import mmap
import os

import numpy as np
import pytest

from tests.kernels import core, needs_this_process
from tests.maam_ops import native, oracle
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.dense_case import DenseCase
from tests.maam_ops.maam_case import MaamCase
from tests.maam_ops.maam_training_case import MaamTrainingCase
from tests.maam_ops.native import Array
from tests.maam_ops.reduce_case import EPS, ReduceCase

from .test_exact import variants

TINY = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0]


@variants("aggregate")
def test_aggregate_of_special_values(dtype, isa):
    """Every pair of special values in two branches, as IEEE arithmetic has it."""
    a, b = (grid.ravel() for grid in np.meshgrid([*SPECIAL, 2 * TINY[dtype]], [*SPECIAL, -2 * TINY[dtype]]))
    case = AggregateCase(a.size, 2, dtype)
    case.alpha, case.a = Array([0, 0], case.alpha.dtype), [Array(a, dtype), Array(b, dtype)]
    case.dg = Array(b, dtype)
    with native.capped(isa):
        g, (_, da) = case.forward(), case.backward()
    with np.errstate(invalid="ignore"):
        for got, exact in ((g, 0.5 * a + 0.5 * b), (da[0], 0.5 * b), (da[1], 0.5 * b)):
            expected = Array(exact, dtype).values
            np.testing.assert_array_equal(got.values, expected)
            zero = expected == 0
            np.testing.assert_array_equal(np.signbit(got.values[zero]), np.signbit(expected[zero]))


@variants("aggregate")
def test_denormals_are_not_flushed(dtype, isa):
    values = TINY[dtype] * np.arange(1, 40)
    case = AggregateCase(values.size, 2, dtype)
    case.alpha = Array([0, -800], case.alpha.dtype)
    case.a = [Array(values, dtype), Array(np.zeros(values.size), dtype)]
    case.dg = Array(-values, dtype)
    with native.capped(isa):
        g, (_, da) = case.forward(), case.backward()
    np.testing.assert_array_equal(g.values, values)
    np.testing.assert_array_equal(da[0].values, -values)


@variants("aggregate")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_in_alpha(dtype, isa, special):
    """An infinite or undefined weight leaves nothing that looks like a result."""
    case = AggregateCase(100, 3, dtype)
    case.alpha = Array([0, special, 1], case.alpha.dtype)
    with native.capped(isa):
        g, (dalpha, _) = case.forward().values, case.backward()
    if special == -np.inf:  # a weight of exactly 0
        rest = oracle.aggregate(np.array([0.0, 1.0]), [case.a[0].values, case.a[2].values])
        np.testing.assert_allclose(g.astype(float), rest.astype(float), rtol=0, atol=8 * native.EPSILON[dtype])
        assert dalpha.values[1] == 0
    else:
        assert np.isnan(g).all() and np.isnan(dalpha.values).all()


@variants("reduce")
def test_reduce_of_special_values(dtype, isa):
    """NaN before the ReLU gives 0 and passes no gradient; infinity passes; -0 is not above 0."""
    g = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, TINY[dtype], 1.0] * 10)
    case = ReduceCase((1, 1, g.size), 1, dtype)
    case.a = [Array(g.reshape(1, 1, -1), dtype)]
    case.weight = Array([[1.0]], dtype)
    case.gamma, case.moving_variance = case.vector([1.0]), case.vector([1.0])
    case.beta = case.moving_mean = case.vector([0.0])
    case.constants = Array([0.0, 0.9], "float64")
    with native.capped(isa):
        f = case.inference().values.ravel()
        da = case.backward(df=np.ones((1, 1, g.size)))["da"][0].values.ravel()
    np.testing.assert_array_equal(f, np.where(g > 0, g, 0))
    np.testing.assert_array_equal(da, g > 0)


@variants("reduce")
def test_no_variance(dtype, isa):
    case = ReduceCase((4, 1, 50), 3, dtype)
    case.a = [Array(np.full((4, 1, 50), 0.75), dtype)]
    case.weight = Array([[1.0], [2.0], [0.0]], dtype)
    with native.capped(isa):
        f, z, mean, rstd, _, variance = case.training()
        gradients = case.backward([f, z, mean, rstd])
    np.testing.assert_array_equal(mean.values, [0.75, 1.5, 0])
    exact = Array(np.full(3, 1 / np.sqrt(EPS)), rstd.dtype).values
    np.testing.assert_allclose(rstd.values.astype(float), exact.astype(float), rtol=1e-7)
    np.testing.assert_allclose(variance.values.astype(float), (0.9 * case.moving_variance.values).astype(float), 1e-6)
    beta = np.maximum(case.beta.values, 0).reshape(1, 3, 1)
    np.testing.assert_array_equal(f.values, Array(np.broadcast_to(beta, f.data.shape), dtype).values)
    assert all(np.isfinite(gradients[name].values).all() for name in ("dweight", "dgamma", "dbeta"))


@pytest.mark.parametrize("branches", [1, 3])
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_one_element_a_channel_is_refused_in_training(dtype, branches):
    case = ReduceCase((1, 3, 1), 5, dtype, branches=branches)
    case.check_inference()
    with pytest.raises(core.Error, match="got 1 elements a channel, expected at least 2"):
        case.training()


@needs_this_process
@pytest.mark.parametrize("impl", ["native", "reference", "akg"])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_implementation_refuses_it(impl, mixed, pynative):
    ms = pytest.importorskip("mindspore")
    from maam_ops import _select, functional

    op = "aggregate_reduce" if mixed else "reduce"
    reasons = {i.name: i.why_not() for i in _select.implementations(op)}
    if (reason := reasons.get(impl, "no such implementation")) is not None:
        pytest.skip(f"{op}: {impl}: {reason}")
    one = ms.Tensor(np.ones((1, 3, 1, 1), np.float32))
    vectors = [ms.Tensor(np.ones(5, np.float32)) for _ in range(4)]
    weight = ms.Tensor(np.ones((5, 3, 1, 1), np.float32))
    with pytest.raises(ValueError, match=r"1 element\(s\) per channel, expected at least 2"):
        if mixed:
            functional.aggregate_reduce(ms.Tensor([0.0, 0.0]), [one, one], weight, *vectors, training=True, impl=impl)
        else:
            functional.reduce(one, weight, *vectors, training=True, impl=impl)


@needs_this_process
@pytest.mark.parametrize("impl", ["native", "reference", "cell"])
@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (0, 3, 4, 4)])
def test_the_whole_module_refuses_it_at_the_call(impl, shape, pynative):
    ms = pytest.importorskip("mindspore")
    import maam_ops

    x = ms.Tensor(np.ones(shape, np.float32))
    weight, last = (ms.Tensor(np.ones((4, inputs, 1, 1), np.float32)) for inputs in (3, 4))
    norm = [ms.Tensor(np.ones(4, np.float32)) for _ in range(4)]
    with pytest.raises(
        ValueError, match=r"[01] element\(s\) per channel after pooling, expected at least 2 in training"
    ):
        if impl == "cell":
            maam_ops.FusedMAAM(3, 4, 4, impl="native").set_train()(x)
        else:
            branches = [(weight, *norm)] * 2
            maam_ops.functional.maam(x, ms.Tensor([0.0, 0.0]), branches, last, *norm, training=True, impl=impl)


@variants("dense")
def test_dense_of_special_values(dtype, isa):
    case = DenseCase(3, 40, 5, dtype)
    x = case.x.values.copy()
    x[0, 3], x[1, 7] = np.nan, np.inf
    case.x = Array(x, dtype)
    weight = case.weight.values
    with native.capped(isa):
        y = case.run().values
        case.relu = True
        cut = case.run().values
    assert np.isnan(y[0]).all() and (y[1] == np.inf * np.sign(weight[:, 7])).all() and np.isfinite(y[2]).all()
    np.testing.assert_array_equal(cut, np.where(y > 0, y, 0))


@variants("maam")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1e25], ids=str)
@pytest.mark.parametrize("kernels", [(3, 3), (3, 5)], ids=str)
def test_special_pixels_of_the_whole_module(dtype, isa, kernels, special):
    """They reach the pixels whose taps meet them and no other, and leave the other images alone."""
    if special == 1e25 and dtype == "float16":
        pytest.skip("an infinity in float16")
    case = MaamCase((3, 3, 9, 12), kernels=kernels, dtype=dtype, weight_dtype=dtype)
    with native.capped(isa):
        before = case.run().data.copy()
        x = case.x.values.copy()
        x[1, 2, 4, 5] = special
        case.x = case.images(x)
        with np.errstate(invalid="ignore", over="ignore"):
            expected = case.expected()
            got = case.run()
    untouched = np.ones(expected.shape[2:], bool)
    untouched[1:4, 1:5] = False
    np.testing.assert_array_equal(got.data[[0, 2]], before[[0, 2]])
    with native.capped(isa), np.errstate(invalid="ignore", over="ignore"):
        rounded = np.nan_to_num(case.rounding_of_g(), posinf=0)
    bound = (1e-5 + native.EPSILON[dtype]) * (1 + np.abs(expected)) + rounded
    native.assert_close(got.values[1][:, untouched], expected[1][:, untouched], bound[1][:, untouched], "F around")
    if not np.isfinite(special):
        finite = np.isfinite(expected[1])
        np.testing.assert_array_equal(got.values[1][~finite], expected[1][~finite])
        native.assert_close(got.values[1][finite], expected[1][finite], bound[1][finite], "F")


@variants("maam_training")
def test_ties_go_to_the_first_maximum(dtype, isa):
    """Constant images tie everywhere inside; a border of zeros breaks it nowhere for 1x1 kernels."""
    case = MaamTrainingCase((2, 3, 8, 8), kernels=(1, 1))
    x = np.repeat(np.repeat(np.random.default_rng(0).standard_normal((2, 3, 4, 4)), 2, 2), 2, 3)
    case.x = case.array(x)
    with native.capped(isa):
        case.check()
        pixel = case.run().results()["pixel"].values
    assert set(np.unique(pixel)) == {0, 4}


@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty_aggregate(dtype, shape):
    case = AggregateCase(shape, 3, dtype)
    assert case.forward().data.shape == shape
    dalpha, _ = case.backward()
    assert not dalpha.values.any()


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0)])
def test_empty_reduce(shape, branches):
    case = ReduceCase(shape, 5, branches=branches)
    case.check_inference()
    assert not any(case.backward()[name].values.any() for name in ("dweight", "dgamma", "dbeta"))
    with pytest.raises(core.Error, match="got 0 elements a channel"):
        case.training()


def test_empty_dense():
    assert DenseCase(0, 7, 3).run().data.shape == (0, 3)


class Wide:
    """An array of more bytes than there is memory for: one piece of it, mapped again and again, then a tail of its own.

    A kernel that counts in 32 bits misses the tail, which then keeps its poison.
    """

    PIECE = 1 << 24

    def __init__(self, elements, values, tail, dtype="float32"):
        item = np.dtype(dtype).itemsize
        pieces = elements * item // self.PIECE
        self.bytes = (pieces + 1) * self.PIECE
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        file = os.memfd_create("wide")
        os.ftruncate(file, 2 * self.PIECE)
        both = mmap.PROT_READ | mmap.PROT_WRITE
        nowhere = 0x4000  # MAP_NORESERVE
        self._base = libc.mmap(None, self.bytes, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | nowhere, -1, 0)
        assert self._base not in (None, ctypes.c_void_p(-1).value)
        for i in range(pieces + 1):
            at = self._base + i * self.PIECE
            offset = self.PIECE if i == pieces else 0
            assert libc.mmap(at, self.PIECE, both, mmap.MAP_SHARED | 0x10, file, offset) == at  # MAP_FIXED
        os.close(file)
        self._unmap = lambda: libc.munmap(ctypes.c_void_p(self._base), ctypes.c_size_t(self.bytes))
        self.data = np.frombuffer((ctypes.c_char * self.bytes).from_address(self._base), dtype)
        self.tail = self.data[pieces * self.PIECE // item :]
        self.data[: self.PIECE // item] = np.resize(values, self.PIECE // item)
        self.tail[:] = np.resize(tail, self.tail.size)

    def close(self):
        del self.tail, self.data
        self._unmap()


# Just above 2^31 elements, and a tail beyond.
ELEMENTS = (1 << 31) + (1 << 22)


@needs_this_process
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")
@pytest.mark.parametrize("isa", sorted({"portable", core.detected_isa()}))
def test_more_than_two_to_the_31_elements(isa, full):
    if not full:
        pytest.skip("maps 12 GiB: make verify")
    a = [Wide(ELEMENTS, np.float16([k, k + 2]), np.float16([k + 4, k + 8]), "float16") for k in (0, 2)]
    results = [Wide(ELEMENTS, np.float16([np.nan]), np.float16([np.nan]), "float16") for _ in range(2)]
    alpha = np.zeros(2, np.float32)
    with native.capped(isa):
        core.launch("AggregateForward", [alpha, *(x.data for x in a)], [results[0].data], ["float32", *["float16"] * 3])
        np.testing.assert_array_equal(results[0].tail, np.resize(np.float16([5, 9]), results[0].tail.size))
        np.testing.assert_array_equal(results[0].data[:64], np.resize(np.float16([1, 3]), 64))
        results[0].tail[:] = np.nan
        dalpha = np.full(2, np.nan, np.float32)
        arrays = [alpha, a[0].data, a[0].data, a[1].data], [dalpha, *(x.data for x in results)]
        core.launch("AggregateBackward", *arrays, ["float32", *["float16"] * 3, "float32", *["float16"] * 2])
        for result in results:
            np.testing.assert_array_equal(result.tail, np.resize(np.float16([2, 4]), result.tail.size))
        tail, body = a[0].tail.size, a[0].data.size - a[0].tail.size
        dots = [body * 2.0 + tail * 40.0, body * 4.0 + tail * (4 * 6 + 8 * 10) / 2]
        np.testing.assert_allclose(dalpha, 0.25 * (np.array(dots) - dots[::-1]), rtol=1e-4)
    for wide in (*a, *results):
        wide.close()


@needs_this_process
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")
def test_more_than_two_to_the_31_pixels(full):
    """One channel in, one out."""
    if not full:
        pytest.skip("takes half a minute: make verify")
    g = Wide(ELEMENTS, np.float16([1, 2]), np.float16([3, 4]), "float16")
    f = Wide(ELEMENTS, np.float16([np.nan]), np.float16([np.nan]), "float16")
    one = np.ones(1, np.float32)
    image = (1, 1, g.data.size)
    inputs = [np.array([0, 0.9]), np.float16([[2]]), one, one, 0 * one, one, g.data.reshape(image)]
    dtypes = ["float64", "float16", *["float32"] * 4, "float16", "float16"]
    core.launch("ReduceInference", inputs, [f.data.reshape(image)], dtypes)
    np.testing.assert_array_equal(f.tail, np.resize(np.float16([7, 9]), f.tail.size))
    np.testing.assert_array_equal(f.data[:64], np.resize(np.float16([3, 5]), 64))
    del inputs
    g.close()
    f.close()


@needs_this_process
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")
def test_a_weight_of_more_than_two_to_the_31_elements(full):
    if not full:
        pytest.skip("reads 8 GiB: make verify")
    inputs = 1 << 20
    weight = Wide(ELEMENTS, np.float32([1, 2]), np.float32([3, 4]))
    outputs = weight.data.size // inputs
    y = np.full((1, outputs), np.nan, np.float32)
    x = np.ones((1, inputs), np.float32)
    arrays = [np.zeros(1, np.float32), x, weight.data.reshape(outputs, inputs)]
    core.launch("DenseForward", arrays, [y], ["float32"] * 4)
    tail = weight.tail.size // inputs
    np.testing.assert_array_equal(y[0, -tail:], 3.5 * inputs)
    np.testing.assert_array_equal(y[0, :-tail], 1.5 * inputs)
    del arrays
    weight.close()


# What comes out is not finite, and the result that is named.
NOT_FINITE = {
    "AggregateForward: G": """
from tests.maam_ops.aggregate_case import AggregateCase
case = AggregateCase(9, 2, "float32")
case.a[1].data[3] = np.nan
case.a[1].frozen()
case.forward()""",
    "AdamUpdate: a value": """
from tests.maam_ops.adam_case import AdamCase
case = AdamCase(9, 3)
case.gradients[1].data[2] = np.nan
case.gradients[1].frozen()
case.run()""",
    "DenseInt8Float: y": """
from tests.maam_ops.int8_case import DenseInt8Case
case = DenseInt8Case(2, 8, 3, floats=True)
case.scale.data[1] = np.inf
case.scale.frozen()
case.run()""",
}


@pytest.mark.parametrize("result", NOT_FINITE)
def test_results_are_checked_for_nan_where_asked_for(result):
    """MAAM_OPS_CHECK_FINITE=1, in a process that has it from the start."""
    import subprocess
    import sys

    code = f"import numpy as np\nfrom tests.maam_ops.native import Array{NOT_FINITE[result]}"
    environment = os.environ | {"MAAM_OPS_CHECK_FINITE": "1", "PYTHONPATH": os.pathsep.join(["."])}
    from .test_processes import ROOT

    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert f"{result}: got NaN or infinity, expected finite values" in done.stderr, done.stderr
