"""Accuracy: every result of every operator, dtype and variant within the operator's bound around the exact one."""

import numpy as np
import pytest

from tests.kernels import core
from tests.maam_ops import native, oracle
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.native import Array
from tests.maam_ops.reduce_case import EPS, ReduceCase

from .draw import Draw
from .operators import EVERY, NAMES, OPERATORS
from .recording import record

MOST_ZEROS = 0.3  # more than that, and a comparison says little


def trusted(recording):
    """Raises where a result is mostly zeros: a kernel that computes nothing could have written it."""
    for function, _, outputs in recording.calls:
        for i, array in enumerate(outputs):
            if array.dtype == "uint8":  # an index, of which 0 is a good one
                continue
            zeros = np.mean(array.values == 0) if array.data.size else 0
            assert zeros <= MOST_ZEROS, f"{function}: result {i} is not trusted, {zeros:.0%} of it are zeros"


@pytest.mark.parametrize("operator, dtype, isa", EVERY, ids=NAMES)
def test_plain_values(operator, dtype, isa):
    with native.capped(isa):
        trusted(record(operator.plain(dtype).check))


@pytest.mark.parametrize("operator, dtype, isa", EVERY, ids=NAMES)
def test_hostile_values_and_sizes(operator, dtype, isa, full):
    with native.capped(isa):
        for number in range(40 if full else 4):
            operator.draw(Draw("accuracy", operator.name, dtype, number), dtype).check()


def test_every_entry_point_has_a_case():
    """An operator that is not in the list of operators would be verified by nothing."""
    launched = set()
    for operator in OPERATORS:
        for dtype in operator.dtypes:
            launched |= record(operator.plain(dtype).check).functions
    missing = {name for name in core.functions() if not name.startswith(("Planted", "Vector", "Intrinsic"))} - launched
    assert not missing, f"no case in tests/verify/operators.py launches {', '.join(sorted(missing))}"


def test_every_variant_has_an_operator():
    """Every file of kernels for an instruction set is reached by capping it."""
    isas = {isa for _, isa, runnable in core.kernels() if runnable}
    assert {isa for operator in OPERATORS for isa in operator.isas} == isas


HALF = ["float16", "bfloat16"]


def rounded(values, dtype):
    """As an operation of that dtype leaves them."""
    return Array(values, dtype).values


def assert_as_good(kernel, unfused, exact, what):
    """The kernel's largest error is at most twice that of the same arithmetic, one operation after the other."""
    errors = [float(np.abs(values - exact).max()) for values in (kernel, unfused)]
    assert errors[0] <= 2 * errors[1], f"{what}: error {errors[0]:.3g}, of single operations {errors[1]:.3g}"


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("isa", native.isas("aggregate_forward"))
def test_half_aggregate_loses_no_more_than_single_operations(dtype, isa):
    case = AggregateCase(20_000, 3, dtype)
    a, dg = [a.values for a in case.a], case.dg.values
    w = rounded(oracle.softmax(case.alpha.values), dtype)
    with native.capped(isa):
        g, (dalpha, da) = case.forward().values, case.backward()
    total = rounded(w[0] * a[0], dtype)
    for weight, branch in zip(w[1:], a[1:], strict=True):
        total = rounded(total + rounded(weight * branch, dtype), dtype)
    assert_as_good(g, total, oracle.aggregate(case.alpha.values, a), "G")
    exact_alpha, exact_a = oracle.aggregate_gradients(case.alpha.values, a, dg)
    for k in range(3):
        assert_as_good(da[k].values, rounded(w[k] * dg, dtype), exact_a[k], "dA")
    dots = rounded(np.array([rounded(dg * branch, dtype).sum() for branch in a]), dtype)
    assert_as_good(dalpha.values, w * (dots - w @ dots), exact_alpha, "d alpha")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("isa", native.isas("reduce_infer"))
@pytest.mark.parametrize("branches", [1, 3])
def test_half_reduce_loses_no_more_than_single_operations(dtype, isa, branches):
    case = ReduceCase((4, 40, 64), 30, dtype, branches=branches)
    with native.capped(isa):
        f = case.inference().values
    vectors = case.moving_mean.values, case.moving_variance.values, case.gamma.values, case.beta.values
    weight = case.weight.values
    g = rounded(case.g, dtype) if branches > 1 else case.g
    z = rounded(np.einsum("oc,bcp->bop", weight, g), dtype)[..., None]
    exact = oracle.normalise_relu(np.einsum("oc,bcp->bop", weight, case.g)[..., None], *vectors, EPS)[..., 0]
    assert_as_good(f, rounded(oracle.normalise_relu(z, *vectors, EPS)[..., 0], dtype), exact, "F")
