"""Cells as users write them, which several tests fuse, their images and what is compared."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import maam_ops
from maam_ops.explain import kernels_run

IMPLS = ["native", "reference"]


def images(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def branch(channels=4, kernel=3, pool=None, **conv):
    return nn.SequentialCell(
        nn.Conv2d(3, channels, kernel, **conv), nn.BatchNorm2d(channels), nn.ReLU(), pool or nn.MaxPool2d(2, 2)
    )


def deep_branch(middle=5, channels=4, kernel=3, second=3, pool=None, eps=1e-3, **conv):
    return nn.SequentialCell(
        *(nn.Conv2d(3, middle, kernel), nn.BatchNorm2d(middle, eps=eps), nn.ReLU()),
        *(nn.Conv2d(middle, channels, second, **conv), nn.BatchNorm2d(channels), nn.ReLU()),
        pool or nn.MaxPool2d(2, 2),
    )


class Net(nn.Cell):
    """A user's module, unfused."""

    def __init__(self, branches):
        super().__init__()
        self.branches = nn.CellList(branches)
        self.attention = ms.Parameter(Tensor(np.linspace(-1, 1, len(branches)).astype(np.float32)))
        self.conv, self.bn = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)

    def construct(self, x):
        weights = ops.softmax(self.attention, 0)
        total = 0
        for i, agent in enumerate(self.branches):
            total = total + weights[i] * agent(x)
        return ops.relu(self.bn(self.conv(total)))

    def fused(self, impl="auto"):
        return maam_ops.FusedMAAM.from_cells(list(self.branches), self.attention, self.conv, self.bn, impl)


def randomised(net, seed=0):
    """Statistics and scales as training leaves them; some scales negative."""
    rng = np.random.default_rng(seed)
    for parameter in net.get_parameters():
        values = rng.standard_normal(parameter.shape)
        if "variance" in parameter.name:
            values = rng.uniform(0.5, 2, parameter.shape)
        elif values.ndim == 4:
            values /= np.sqrt(values[0].size)
        parameter.set_data(Tensor(values.astype(np.float32)))
    return net


class MeanSquare(nn.Cell):
    def construct(self, f, label):
        return (f * f).mean()


class Square(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x):
        return (self.net(x) ** 2).sum()


def assert_near(got, expected, rtol=1e-5):
    got, expected = (t.astype(ms.float32).asnumpy() for t in (got, expected))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def names(ran):
    return {name.split("/")[0] for name in ran}


def check_mixed_precision(net, level, x, incoming, kernels):
    """Loss and gradients of a net under mixed precision, by these kernels, are near those in float32."""

    def step(cell):
        def loss(t):
            return (cell(t).astype(ms.float32) * incoming).sum()

        value, gradients = ms.value_and_grad(loss, None, net.trainable_params())(x)
        return [value, *gradients]

    wide, results = step(net), []
    mixed = ms.amp.auto_mixed_precision(net, level)
    ran = kernels_run(lambda: results.extend(step(mixed)) or results)
    assert names(ran) == kernels
    for got, expected in zip(results, wide, strict=True):
        assert_near(got, expected, 2e-2)
