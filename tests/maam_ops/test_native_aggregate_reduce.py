"""aggregate_reduce on NumPy arrays: every variant against float64 NumPy, and against aggregate followed by reduce."""

import numpy as np
import pytest

from . import native, oracle
from .native import Array, capped, launch
from .reduce_case import EPS, ReduceCase

_core = native._core
ISAS = native.isas("reduce_infer")
SHAPES = [((1, 1, 2), 1), ((70, 3, 1), 5), ((1, 16, 64), 8), ((3, 17, 49), 13), ((2, 33, 65), 6), ((2, 8, 256), 24)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("shape, outputs", SHAPES)
def test_shapes(isa, dtype, shape, outputs):
    with capped(isa):
        ReduceCase(shape, outputs, dtype, branches=3, offset=shape[2] % 3).check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("branches", range(2, 9))
def test_numbers_of_branches(isa, dtype, branches):
    with capped(isa):
        ReduceCase((3, 10, 35), 7, dtype, branches=branches, weight_dtype="float32").check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_as_aggregate_then_reduce(isa, dtype):
    """G is summed up as aggregate does, so where its storage rounds nothing F is the same to the last bit."""
    case = ReduceCase((3, 20, 49), 10, dtype, branches=3)
    with capped(isa):
        f, trained = case.inference(), case.training()
        g = Array.poisoned(case.a[0].data.shape, dtype)
        launch("AggregateForward", [case.alpha, *case.a], [g])
        case.a = [Array(g.values, dtype)]
        assert f.data.tobytes() == case.inference().data.tobytes()
        for one, two in zip(trained, case.training(), strict=True):
            assert one.data.tobytes() == two.data.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_same_bits_for_any_number_of_threads_and_any_run(isa, dtype):
    case = ReduceCase((37, 12, 49), 18, dtype, branches=3)
    seen = set()
    with capped(isa):
        for n in (1, 2, 3, 1, 2):
            with native.threads(n):
                seen.add(case.bits())
    assert len(seen) == 1


def test_gradients_are_the_derivatives():
    """The backward kernels against central differences of the oracle, in float64."""
    case = ReduceCase((2, 3, 5), 4, "float64", branches=3)
    operands = {"alpha": case.alpha.values, "a": np.stack([a.values for a in case.a]), "weight": case.weight.values}
    rest = [v.values for v in (case.gamma, case.beta, case.moving_mean, case.moving_variance)]
    for training in (False, True):
        got = case.backward(case.training() if training else None)

        def loss(training=training, **changed):
            alpha, a, weight = (operands | changed).values()
            function = oracle.reduce_training if training else oracle.reduce_inference
            f = function(oracle.aggregate(alpha, a)[..., None], weight, *rest, eps=EPS)
            return float((case.df * (f[0] if training else f)[..., 0]).sum())

        for name, x in operands.items():
            expected = oracle.numeric_gradient(lambda x, name=name, loss=loss: loss(**{name: x}), x.copy())
            values = np.stack([da.values for da in got["da"]]) if name == "a" else got[f"d{name}"].values
            np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_empty_batch():
    case = ReduceCase((0, 3, 16), 5, branches=2)
    assert case.inference().data.size == 0
    gradients = case.backward()
    for name in ("dalpha", "dweight", "dgamma", "dbeta"):
        assert not gradients[name].values.any()
    with pytest.raises(_core.Error, match=r"AggregateReduceTraining: G: got 0 elements a channel"):
        case.training()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda case: case.a.append(case.a[0]), r"alpha: got shape 3, expected 4 elements"),
        (
            lambda case: setattr(case, "alpha", Array(np.ones(3), "float64")),
            r"alpha: got dtype float64, expected float32",
        ),
        (lambda case: case.a.__setitem__(1, Array(np.ones((2, 3, 8)), "float32")), r"branch 1: got shape 2x3x8"),
        (lambda case: case.a.__setitem__(2, Array(np.ones((2, 3, 16)), "float16")), r"branch 2: got dtype float16"),
        (lambda case: case.a.extend([case.a[0]] * 6), r"branches: got 9, expected 2 to 8"),
        (lambda case: setattr(case, "weight", Array(np.ones((5, 4)), "float32")), r"weight: got shape 5x4"),
    ],
)
@pytest.mark.parametrize("call", ["inference", "training", "backward"])
def test_what_does_not_fit_is_refused(change, message, call):
    case = ReduceCase((2, 3, 16), 5, branches=3)
    change(case)
    with pytest.raises(_core.Error, match=message):
        getattr(case, call)()


def test_counters_name_what_ran():
    """G is neither read nor written: the forward moves the branches and F alone."""
    _core.reset_counters()
    case = ReduceCase((2, 3, 16), 5, branches=3)
    case.inference()
    row = _core.counters()[f"aggregate_reduce_inference/{ISAS[-1]}"]
    assert row["calls"] == 1
    assert row["bytes_moved"] == 4 * (2 * 16 * (3 * 3 + 5) + 15)
