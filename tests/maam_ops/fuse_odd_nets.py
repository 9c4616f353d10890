"""Nets that look like what fuse swaps: it must refuse them, or be told by a rule."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from .fuse_nets import Branches, IndexedFusion, UnpackedFusion


class Temperature(nn.Cell):
    def construct(self, w):
        return ops.softmax(w / 2.0, 0)


class StoppedGradient(nn.Cell):
    def construct(self, w):
        return ops.stop_gradient(ops.softmax(w, 0))


class DroppedWeights(nn.Cell):
    """Softmax in evaluation; in training the weights go through a dropout."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(p=0.5)

    def construct(self, w):
        return self.dropout(ops.softmax(w, 0))


class CountingFusion(IndexedFusion):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def construct(self, a, b, c):
        self.calls += 1
        w = self.normalise(self.w)
        return w[0] * a + w[1] * b + w[2] * c


class SwitchableFusion(IndexedFusion):
    """Its attribute decides what it computes; who knows that it stays may say so in a rule."""

    def __init__(self):
        super().__init__()
        self.uniform = False

    def construct(self, a, b, c):
        if self.uniform:
            return (a + b + c) / 3
        w = self.normalise(self.w)
        return w[0] * a + w[1] * b + w[2] * c


class InlineSum(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(3, 4, 3)
        self.w = Parameter(ops.ones(2, ms.float32))

    def construct(self, x):
        w = ops.softmax(self.w, 0)
        return w[0] * self.a(x) + w[1] * self.b(x)


class ThreeScalars(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w1 = Parameter(Tensor(1.0, ms.float32))
        self.w2 = Parameter(Tensor(1.0, ms.float32))

    def construct(self, a, b):
        w = ops.softmax(ops.stack((self.w1, self.w2)), 0)
        return w[0] * a + w[1] * b


class SharedWeights(nn.Cell):
    """The weights of the sum are read by another Cell too."""

    def __init__(self):
        super().__init__()
        self.branches = Branches(IndexedFusion(), 3, as_list=False)
        self.second = IndexedFusion()
        self.second.w = self.branches.fusion.w

    def construct(self, x):
        y = self.branches(x)
        return self.second(y, y * 2, y * 3)


class SameBranchTwice(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(3, 4, 3)
        self.fusion = IndexedFusion()

    def construct(self, x):
        a = self.a(x)
        return self.fusion(a, self.b(x), a)


class CalledTwice(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(3, 4, 3)
        self.fusion = UnpackedFusion()

    def construct(self, x):
        a, b = self.a(x), self.b(x)
        return self.fusion(a, b) + self.fusion(b, a)


class SharedConvOutput(nn.Cell):
    """The convolution's output has a second reader, which no Cell shows."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()

    def construct(self, x):
        y = self.conv(x)
        return self.relu(self.bn(y)) + y


class FunctionalRelu(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)

    def construct(self, x):
        return ops.relu(self.bn(self.conv(x)))


class LoopedCells(nn.Cell):
    """In a row, but only a run shows it: a rule must vouch for it."""

    def __init__(self, size: int = 1):
        super().__init__()
        self.layers = nn.CellList([nn.Conv2d(3, 4, size), nn.BatchNorm2d(4), nn.ReLU()])

    def construct(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class SameConvTwice(nn.Cell):
    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 1)
        self.first = nn.SequentialCell(conv, nn.BatchNorm2d(3), nn.ReLU())
        self.second = nn.SequentialCell(conv, nn.BatchNorm2d(3), nn.ReLU())

    def construct(self, x):
        return self.second(self.first(x))


class Reduce(nn.Cell):
    """Conv, BN and an activation in a row, with whatever is given."""

    def __init__(self, conv: nn.Cell | None = None, bn: nn.Cell | None = None, relu: nn.Cell | None = None):
        super().__init__()
        self.row = nn.SequentialCell(conv or nn.Conv2d(3, 4, 1), bn or nn.BatchNorm2d(4), relu or nn.ReLU())

    def construct(self, x):
        return self.row(x)
