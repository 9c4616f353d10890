"""compare on whole operators and nets: what it leaves out, and what it leaves behind."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import maam_ops
from maam_ops import functional, reference

pytestmark = pytest.mark.usefixtures("pynative")
RNG = np.random.default_rng(0)


def tensor(*shape):
    return Tensor(RNG.standard_normal(shape), ms.float32)


def layer(outputs, inputs, size):
    vectors = [Tensor(RNG.uniform(0.5, 1.5, outputs), ms.float32) for _ in range(4)]
    return [tensor(outputs, inputs, size, size), *vectors]


BRANCHES = [layer(4, 3, 3), layer(4, 3, 3)]
# Operator, its operands, and which of these, lists opened, are running statistics.
CASES = {
    "reduce": ([tensor(2, 4, 5, 5), *layer(6, 4, 1)], {4, 5}),
    "conv_block": ([tensor(2, 3, 5, 5), *layer(4, 3, 3)], {4, 5}),
    "aggregate_reduce": ([tensor(2), [tensor(2, 4, 5, 5)] * 2, *layer(6, 4, 1)], {6, 7}),
    "maam_mix": ([tensor(2, 3, 6, 6), tensor(2), BRANCHES], {5, 6, 10, 11}),
    "maam": ([tensor(2, 3, 6, 6), tensor(2), BRANCHES, *layer(6, 4, 1)], {5, 6, 10, 11, 15, 16}),
}


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("training", [False, True])
def test_running_statistics_take_no_gradient(op, training):
    operands, statistics = CASES[op]
    report = maam_ops.compare(getattr(functional, op), *operands, training=training)
    assert report, str(report)
    compared = {int(row.name.split()[-1]) for row in report.differences if row.name.startswith("gradient")}
    assert compared == set(range(max(*compared, *statistics) + 1)) - statistics


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("op", ["reduce", "conv_block"])
def test_the_definition_stops_at_statistics_as_the_kernel_does(op, training):
    operands, _ = CASES[op]

    def total(function, *given):
        results = function(*given, training=training)
        return sum(result.sum() for result in results) if training else results.sum()

    expected, got = (
        ms.grad(lambda *given, function=function: total(function, *given), (1, 4, 5))(*operands)
        for function in (getattr(reference, op), getattr(functional, op))
    )
    np.testing.assert_array_equal(expected[1].asnumpy(), 0)
    for left, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(left.asnumpy(), right.asnumpy(), rtol=1e-3, atol=1e-4)
