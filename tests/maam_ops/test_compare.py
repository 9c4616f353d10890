"""compare on whole operators and nets: what it leaves out, and what it leaves behind."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

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


def branch():
    return nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, 2))


def state(net):
    return [parameter.asnumpy().copy() for parameter in net.get_parameters()]


def test_a_net_whose_names_change_at_its_first_call():
    net = maam_ops.FusedMix([branch(), branch(), branch()], Parameter(tensor(3), name="alpha")).set_train()
    before = state(net)
    report = maam_ops.compare(net, tensor(4, 3, 6, 6))
    assert report, str(report)
    assert len({row.name for row in report.differences}) == len(report.differences) == 1 + 11 + 6
    for left, right in zip(state(net), before, strict=True):
        np.testing.assert_array_equal(left, right)


class Raises(nn.Cell):
    def __init__(self):
        super().__init__()
        self.reduce = maam_ops.FusedReduce(3, 4)

    def construct(self, x):
        y = self.reduce(x)
        raise ValueError("after the statistics have moved")
        return y


def test_a_net_is_put_back_where_it_raises():
    net = Raises().set_train()
    before = state(net)
    with pytest.raises(ValueError, match="after the statistics"):
        maam_ops.compare(net, tensor(4, 3, 6, 6))
    for left, right in zip(state(net), before, strict=True):
        np.testing.assert_array_equal(left, right)


def test_keywords_beside_a_cell_are_refused():
    with pytest.raises(TypeError, match="keywords: got training beside a Cell, expected none"):
        maam_ops.compare(maam_ops.FusedReduce(3, 4), tensor(2, 3, 4, 4), training=True)
