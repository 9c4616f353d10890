"""FusedConvBlock and functional.conv_block in MindSpore: both modes, pool and residual, statistics, gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import conv_block

from .cells import Square, assert_near, images, names, randomised


class Plain(nn.Cell):
    """Two blocks of a user's net, the second with pool or with the first one's result as its residual."""

    def __init__(self, end):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, pad_mode="pad", padding=1), nn.BatchNorm2d(6, eps=1e-3, momentum=0.7)
        self.relu, self.pool, self.end = nn.ReLU(), nn.MaxPool2d(2, 2), end

    def construct(self, x):
        first = self.relu(self.bn1(self.conv1(x)))
        second = self.relu(self.bn2(self.conv2(first)))
        if self.end == "pool":
            return self.pool(second)
        return second + first if self.end == "residual" else second


class Fused(nn.Cell):
    def __init__(self, net, impl="native"):
        super().__init__()
        self.first = maam_ops.FusedConvBlock(net.conv1, net.bn1, impl=impl)
        self.second = maam_ops.FusedConvBlock(net.conv2, net.bn2, net.pool if net.end == "pool" else None, impl)
        self.adds = net.end == "residual"

    def construct(self, x):
        first = self.first(x)
        return self.second(first, first) if self.adds else self.second(first)


def _step(cell, parameters, x):
    value, (by_x, by_parameters) = ms.value_and_grad(Square(cell), 0, parameters)(x)
    return [value, by_x, *by_parameters]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("end", ["", "pool", "residual"])
def test_results_and_gradients_are_those_of_the_layers(mode, end, training):
    plain, twin = (randomised(Plain(end)) for _ in range(2))
    fused, x = Fused(twin), images(3, 3, 9, 10)
    for cell in (plain, twin, fused):
        cell.set_train(training)
    results = []
    ran = kernels_run(lambda: results.extend(_step(fused, twin.trainable_params(), x)) or results)
    assert names(ran) == ({"conv_block_forward", "conv_block_backward"} if training else {"conv_block_inference"})
    for got, expected in zip(results, _step(plain, plain.trainable_params(), x), strict=True):
        assert_near(got, expected, 1e-4)
    for got, expected in zip(twin.get_parameters(), plain.get_parameters(), strict=True):
        assert_near(got, expected)  # the running statistics


def test_evaluation_follows_weights_and_statistics(mode):
    net = randomised(Plain("pool"))
    fused, x = Fused(net), images(2, 3, 8, 8)
    for seed in (1, 2):
        randomised(net, seed)
        assert_near(fused(x), net(x), 1e-4)


def test_parameters_keep_object_and_name(pynative):
    net = Plain("")
    before = {p.name: p for cell in (net.conv1, net.bn1) for p in cell.get_parameters()}
    assert {p.name: p for p in maam_ops.FusedConvBlock(net.conv1, net.bn1).get_parameters()} == before


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_half_images_are_computed_in_float32(pynative, dtype):
    net = randomised(Plain(""))
    operands = (net.conv1.weight, net.bn1.gamma, net.bn1.beta, net.bn1.moving_mean, net.bn1.moving_variance)
    x, residual = images(2, 3, 8, 8).astype(dtype), images(2, 6, 8, 8, seed=1).astype(dtype)
    a = conv_block(x, *operands, residual, impl="native")
    expected = conv_block(x, *operands, residual, impl="reference")
    assert a.dtype == expected.dtype == dtype
    assert_near(a, expected, 1e-2 if dtype == ms.bfloat16 else 2e-3)


def test_compare_covers_the_operator(pynative):
    net = randomised(Plain(""))
    operands = (net.conv1.weight, net.bn1.gamma, net.bn1.beta, net.bn1.moving_mean, net.bn1.moving_variance)
    report = maam_ops.compare(conv_block, images(4, 3, 8, 8), *operands, training=True)
    assert report, str(report)


def test_dynamic_batch_in_graph_mode(graph):
    net = randomised(Plain("pool")).set_train()
    fused = Fused(net).set_train()
    fused.set_inputs(Tensor(shape=[None, 3, 8, 8], dtype=ms.float32))
    for batch in (2, 5):
        x = images(batch, 3, 8, 8)
        np.testing.assert_allclose(fused(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-4)


class TestErrors:
    def test_other_cells(self, pynative):
        bn = nn.BatchNorm2d(4)
        with pytest.raises(ValueError, match="FusedConvBlock: block has kernel_size"):
            maam_ops.FusedConvBlock(nn.Conv2d(3, 4, 5), bn)
        with pytest.raises(ValueError, match="block has stride"):
            maam_ops.FusedConvBlock(nn.Conv2d(3, 4, 3, stride=2), bn)
        with pytest.raises(ValueError, match="block is a Dense and a BatchNorm2d"):
            maam_ops.FusedConvBlock(nn.Dense(2, 2), bn)
        with pytest.raises(ValueError, match="block ends with a AvgPool2d"):
            maam_ops.FusedConvBlock(nn.Conv2d(3, 4, 3), bn, nn.AvgPool2d(2, 2))

    def test_shapes(self, mode):
        net = Plain("")
        operands = (net.conv1.weight, net.bn1.gamma, net.bn1.beta, net.bn1.moving_mean, net.bn1.moving_variance)
        with pytest.raises(ValueError, match=r"weight: got shape \(6, 3, 3, 3\), expected \(C, 2, 3, 3\)"):
            conv_block(images(1, 2, 8, 8), *operands)
        with pytest.raises(ValueError, match=r"1 element\(s\) per channel, expected at least 2 in training"):
            conv_block(images(1, 3, 1, 1), *operands, training=True)
        with pytest.raises(ValueError, match=r"residual: got shape \(1, 6, 4, 4\), expected \(1, 6, 8, 8\)"):
            conv_block(images(1, 3, 8, 8), *operands, images(1, 6, 4, 4))
        with pytest.raises(ValueError, match="residual: got one beside pool=True"):
            conv_block(images(1, 3, 8, 8), *operands, images(1, 6, 8, 8), pool=True)
