"""Normalisations frozen one by one in a net that trains: every fused Cell does what the layers do."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import maam_ops
from maam_ops.explain import kernels_run

from .cells import Net, assert_near, branch, images, names, randomised
from .cells import deep_branch as deep


class Mean(nn.Cell):
    """The mean of branches, unfused."""

    def __init__(self, branches):
        super().__init__()
        self.branches = nn.CellList(branches)

    def construct(self, x):
        total = 0
        for agent in self.branches:
            total = total + agent(x) / len(self.branches)
        return total


# The net, what the fused Cell is made of, and the kernels that run once all its normalisations are frozen.
CELLS = {
    "conv_block": (
        lambda: nn.SequentialCell(*list(branch())),
        lambda net: maam_ops.FusedConvBlock(net[0], net[1], net[3], "native"),
        {"conv_block_inference"},
    ),
    "mix": (
        lambda: Mean([branch(), branch(kernel=5)]),
        lambda net: maam_ops.FusedMix(list(net.branches), impl="native"),
        {"maam_mix"},
    ),
    "agent_block": (deep, lambda net: maam_ops.FusedAgentBlock(net, "native"), set()),
    "maam": (lambda: Net([branch(), branch(kernel=5)]), lambda net: net.fused("native"), {"maam_inference"}),
    "maam_deep": (lambda: Net([deep(), deep()]), lambda net: net.fused("native"), {"maam_deep_inference"}),
}


def norms(net):
    return [cell for _, cell in net.cells_and_names() if isinstance(cell, nn.BatchNorm2d)]


def frozen_by_flag(bn):
    bn.set_train(False)


def frozen_by_attribute(bn):
    bn.use_batch_statistics = False


@pytest.fixture(params=CELLS)
def pair(request):
    """A net in training, its fused twin, the twin's layers and the kernels for frozen ones."""
    make, fuse, kernels = CELLS[request.param]
    net, twin = randomised(make()).set_train(), randomised(make()).set_train()
    return net, fuse(twin).set_train(), twin, kernels


def assert_same_step(net, fused, twin, x):
    """Result and running statistics; the kernels that ran."""
    results = []
    ran = names(kernels_run(lambda: results.append(fused(x)) or results[0]))
    assert_near(results[0], net(x), 1e-4)
    for got, expected in zip(twin.get_parameters(), net.get_parameters(), strict=True):
        assert_near(got, expected, 1e-4)
    return ran


@pytest.mark.parametrize("freeze", [frozen_by_flag, frozen_by_attribute])
def test_all_frozen(mode, pair, freeze):
    net, fused, twin, kernels = pair
    for bn in norms(net) + norms(fused):
        freeze(bn)
    if hasattr(fused, "mix"):
        freeze(net.bn)
        freeze(fused.mix)
    assert assert_same_step(net, fused, twin, images(3, 3, 8, 8)) == kernels


@pytest.mark.parametrize("pair", [name for name in CELLS if name != "conv_block"], indirect=True)
def test_one_frozen_runs_layer_by_layer(mode, pair):
    net, fused, twin, _ = pair
    for bn in (norms(net)[0], norms(fused)[0]):
        frozen_by_flag(bn)
    ran = assert_same_step(net, fused, twin, images(3, 3, 8, 8))
    assert ran <= {"aggregate_reduce_training"}
    count = len(norms(fused)) + hasattr(fused, "mix")
    assert f"layer by layer now: {count - 1} of {count} normalisations" in str(maam_ops.explain(fused))
    fused.set_train(False)
    assert "layer by layer" not in str(maam_ops.explain(fused))


def test_some_that_stay_with_the_batch_in_evaluation(pynative, pair):
    net, fused, twin, _ = pair
    for cell in (net, fused):
        cell.set_train(False)
        for bn in norms(cell):
            bn.use_batch_statistics = True
    if hasattr(fused, "mix"):
        net.bn.use_batch_statistics = None  # it is the mix's, which is in evaluation
    assert_same_step(net, fused, twin, images(3, 3, 8, 8))


def test_gradients_of_frozen_layers(mode, pair):
    net, fused, twin, _ = pair
    for bn in norms(net) + norms(fused):
        bn.set_train(False)
    if hasattr(fused, "mix"):
        net.bn.set_train(False)
        fused.mix.set_train(False)
    x = images(3, 3, 8, 8)

    def gradients(cell, parameters):
        def loss(data):
            return (cell(data) ** 2).sum()

        by_x, by_parameters = ms.grad(loss, 0, parameters)(x)
        return [by_x, *by_parameters]

    expected = gradients(net, net.trainable_params())
    for got, right in zip(gradients(fused, twin.trainable_params()), expected, strict=True):
        assert_near(got, right, 1e-4)


def test_what_is_frozen_when_the_cell_is_made_stays_so(pynative):
    for make, fuse, _ in CELLS.values():
        net = make().set_train()
        norms(net)[0].set_train(False)
        flags = [bn.training for bn in norms(net)]
        fuse(net)
        assert [bn.training for bn in norms(net)] == flags


@pytest.mark.parametrize("make", [lambda: maam_ops.FusedReduce(3, 4), lambda: maam_ops.FusedAggregateReduce(2, 3, 4)])
def test_a_reduction_is_frozen_by_its_own_flag(pynative, make):
    x = images(2, 3, 4, 4)
    for freeze in (frozen_by_flag, frozen_by_attribute):
        cell = make().set_train()
        freeze(cell)
        cell(*[x] * getattr(cell, "num_agents", 1))
        np.testing.assert_array_equal(cell.moving_mean.asnumpy(), 0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_fuse_leaves_frozen_what_is(pynative, kernel):
    """The layer walked last, whose place the operator takes, may train where the normalisation does not."""

    class Row(nn.Cell):
        def __init__(self):
            super().__init__()
            self.bn, self.conv, self.relu = nn.BatchNorm2d(4), nn.Conv2d(3, 4, kernel), nn.ReLU()

        def construct(self, x):
            return self.relu(self.bn(self.conv(x)))

    net, x = randomised(Row()).set_train(), images(2, 3, 8, 8)
    frozen_by_flag(net.bn)
    expected = net(x)
    assert len(maam_ops.fuse(net, probe=x, impl="native").swaps) == 1
    assert_near(net(x), expected)
