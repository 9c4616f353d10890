"""The reduce kernels on NumPy arrays: every variant against float64 NumPy, written independently of the C++."""

import numpy as np
import pytest

from . import native, oracle
from .native import Array, capped, launch
from .reduce_case import EPS, MOMENTUM, ReduceCase

_core = native._core
ISAS = native.isas("reduce_infer")

# (batch, inputs, pixels), outputs: images that fill tiles of 64 pixels and that straddle them; channels around the
# blocks of rows and vectors.
SHAPES = [
    ((1, 1, 2), 1),
    ((2, 1, 1), 3),
    ((65, 5, 1), 7),
    ((1, 3, 63), 4),
    ((1, 4, 64), 5),
    ((1, 8, 65), 6),
    ((3, 17, 49), 13),
    ((2, 16, 128), 8),
    ((5, 33, 77), 12),
    ((7, 31, 15), 33),
    ((2, 70, 256), 24),
    ((40, 9, 100), 10),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_backward_agree_on_what_the_relu_cuts(isa, dtype):
    """By running statistics, with beta so that a single rounding decides about the sign."""
    rng = np.random.default_rng(0)
    outputs = 300
    case = ReduceCase((1, 1, 1), outputs, dtype)
    case.a, case.weight = [Array(np.ones((1, 1, 1)), dtype)], Array(np.ones((outputs, 1)), dtype)
    gamma, variance = (Array(rng.uniform(0.5, 1.5, outputs), case.wide) for _ in range(2))
    case.gamma, case.moving_variance, case.moving_mean = gamma, variance, case.vector(np.zeros(outputs))
    case.constants = Array([0.0, 0.9], "float64")
    as_kernels = (1 / np.sqrt(variance.data.astype(np.float64))) * gamma.data
    case.beta = case.vector(-as_kernels.astype(case.wide).astype(np.float64))
    with capped(isa):
        passed = case.inference().values.ravel() > 0
        gradients = case.backward(df=np.ones((1, outputs, 1)))
    np.testing.assert_array_equal(passed, gradients["dbeta"].values != 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_shapes(isa, dtype, shape, outputs):
    with capped(isa):
        ReduceCase(shape, outputs, dtype, offset=shape[2] % 3).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_float32_weight_beside_half_data(isa, dtype):
    with capped(isa):
        ReduceCase((3, 20, 49), 9, dtype, weight_dtype="float32").check()


@pytest.mark.parametrize("shape, outputs", [((1, 700, 70), 3), ((1, 3, 70), 700)])
def test_many_channels(shape, outputs):
    ReduceCase(shape, outputs).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 1, 4])
def test_results_larger_than_the_cache(isa, dtype, offset):
    """Beyond the last-level cache F is written by streaming stores; tiles are moved to the alignment these need."""
    case = ReduceCase((3000 if dtype == "float32" else 1500, 1, 64), 64, dtype, offset=offset)  # F of 49 MB
    few = np.linspace(0, case.batch - 1, 50, dtype=int)
    with capped(isa):
        f = case.inference().values
    case.a[0] = Array(case.a[0].values[few], dtype)
    g, weight = case.a[0].values, case.weight.values
    vectors = [v.values for v in (case.moving_mean, case.moving_variance, case.gamma, case.beta)]
    expected = oracle.normalise_relu(np.einsum("oc,bcp->bop", weight, g)[..., None], *vectors, EPS)[..., 0]
    assert not np.isnan(f).any()
    np.testing.assert_allclose(f[few], expected, rtol=0, atol=64 * case.eps)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_same_bits_for_any_number_of_threads_and_any_run(isa, dtype):
    case = ReduceCase((37, 12, 49), 18, dtype)
    seen = set()
    with capped(isa):
        for n in (1, 2, 3, 1, 2):
            with native.threads(n):
                seen.add(case.bits())
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", native.DTYPES)
def test_same_bits_for_any_alignment(dtype):
    assert len({ReduceCase((4, 12, 64), 18, dtype, offset=offset).bits() for offset in (0, 1, 3, 8)}) == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_integers_are_exact(isa, dtype):
    with capped(isa):
        ReduceCase.check_integers(dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_nan_and_infinity(isa, dtype):
    with capped(isa):
        ReduceCase.check_nan_and_infinity(dtype)


def test_relu_passes_no_gradient_at_zero():
    case = ReduceCase((1, 2, 40), 3)
    case.a = [Array(np.zeros((1, 2, 40)), "float32")]
    case.beta = case.moving_mean = case.vector(np.zeros(3))
    for gradient in (case.backward(), case.backward(case.training())):
        assert not gradient["da"][0].values.any() and not gradient["dbeta"].values.any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pixels, outputs", [(1, 3), (63, 5), (1024, 2)])
def test_statistics_of_data_far_from_zero(isa, pixels, outputs):
    """A mean ten thousand times the deviation: sums of squares as such would leave no digit of the variance."""
    case = ReduceCase((70, 1, pixels), outputs)
    case.weight = Array(np.ones((outputs, 1)), "float32")
    case.a = [Array(case.a[0].values + 1e4, "float32")]
    with capped(isa):
        case.check_training()


def test_constant_data_have_no_variance():
    case = ReduceCase((9, 1, 77), 2)
    case.a = [Array(np.full((9, 1, 77), 0.1), "float32")]
    _, _, _, rstd, _, new_variance = case.training()
    np.testing.assert_array_equal(rstd.values, np.float32(1 / np.sqrt(EPS)))
    np.testing.assert_allclose(new_variance.values, MOMENTUM * case.moving_variance.values, rtol=1e-6)


def test_gradients_are_the_derivatives():
    """The backward kernels against central differences of the oracle, in float64."""
    case = ReduceCase((2, 3, 5), 4, "float64")
    trained = case.training()
    operands = {"g": case.g, "weight": case.weight.values, "gamma": case.gamma.values, "beta": case.beta.values}
    statistics = case.moving_mean.values, case.moving_variance.values

    def loss(training, **changed):
        g, weight, gamma, beta = (operands | changed).values()
        function = oracle.reduce_training if training else oracle.reduce_inference
        f = function(g[..., None], weight, gamma, beta, *statistics, eps=EPS)
        return float((case.df * (f[0] if training else f)[..., 0]).sum())

    for training in (False, True):
        got = case.backward(trained if training else None)
        got["dg"] = got.pop("da")[0]
        for name, x in operands.items():
            expected = oracle.numeric_gradient(lambda x, name=name: loss(training, **{name: x}), x.copy())  # noqa: B023
            np.testing.assert_allclose(got[f"d{name}"].values, expected, rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("shape", [(0, 3, 16), (2, 3, 0)])
def test_no_pixels(shape):
    case = ReduceCase(shape, 5)
    assert case.inference().data.size == 0
    gradients = case.backward()
    for name in ("dweight", "dgamma", "dbeta"):
        assert not gradients[name].values.any()
    with pytest.raises(_core.Error, match=r"ReduceTraining: G: got 0 elements a channel, expected at least 2"):
        case.training()


def test_one_element_a_channel_cannot_be_trained():
    case = ReduceCase((1, 3, 1), 5)
    case.check_inference()
    with pytest.raises(_core.Error, match=r"ReduceTraining: G: got 1 elements a channel, expected at least 2"):
        case.training()
    trained = [case.poisoned(), case.poisoned(), *(case.vector(np.ones(5)) for _ in range(2))]
    with pytest.raises(_core.Error, match=r"ReduceBackward: G: got 1 elements a channel"):
        case.backward(trained)


def _wrong(field, values, dtype=None):
    def change(case):
        setattr(case, field, Array(values, dtype or case.wide))

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (_wrong("weight", np.ones((5, 4))), r"weight: got shape 5x4, expected \(outputs, 3\)"),
        (_wrong("weight", np.ones(15)), r"weight: got shape 15,"),
        (_wrong("weight", np.ones((5, 3, 2, 1))), r"weight: got shape 5x3x2x1,"),
        (_wrong("weight", np.ones((0, 3))), r"weight: got shape 0x3,"),
        (_wrong("weight", np.ones((5, 3)), "float64"), r"weight: got dtype float64, expected float32"),
        (_wrong("gamma", np.ones(4)), r"gamma: got shape 4, expected 5 elements"),
        (_wrong("beta", np.ones(5), "float16"), r"beta: got dtype float16, expected float32"),
        (_wrong("moving_mean", np.ones(6)), r"moving_mean: got shape 6, expected 5 elements"),
        (_wrong("moving_variance", np.ones(5), "float64"), r"moving_variance: got dtype float64"),
        (_wrong("constants", [1e-5]), r"constants: got shape 1, expected 2 elements"),
        (_wrong("constants", [1e-5, 0.9], "float16"), r"constants: got dtype float16"),
        (lambda case: case.a.__setitem__(0, Array(np.ones(3), "float32")), r"G: got shape 3, expected \(batch"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    case = ReduceCase((2, 3, 16), 5)
    change(case)
    with pytest.raises(_core.Error, match=r"maam_ops\.ReduceInference: " + message):
        f = Array.poisoned((2, 5, 16), "float32")
        launch("ReduceInference", [*case.statistics(), *case.a], [f])


def test_float32_constants_serve_as_well():
    case = ReduceCase((2, 3, 16), 5)
    case.constants = Array([EPS, MOMENTUM], "float32")
    case.check_inference()


def test_counters_name_what_ran():
    _core.reset_counters()
    case = ReduceCase((2, 3, 16), 5)
    case.backward(case.training())
    isa = ISAS[-1]
    counters = _core.counters()
    assert counters[f"reduce_training/{isa}"]["calls"] == counters[f"reduce_backward/{isa}"]["calls"] == 1
    assert counters[f"reduce_training/{isa}"]["bytes_moved"] == 4 * (2 * 16 * (3 + 2 * 5) + 15)
    assert counters[f"reduce_backward/{isa}"]["scratch_bytes"] > 4 * 3 * 64
