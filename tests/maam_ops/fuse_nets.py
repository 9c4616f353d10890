"""Nets as people write them, which fuse must recognise."""

from __future__ import annotations

from collections import OrderedDict

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class AgentBlock(nn.Cell):
    def __init__(self, channels: int):
        super().__init__()
        self.block = nn.SequentialCell(
            nn.Conv2d(3, channels, 3, pad_mode="pad", padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
        )

    def construct(self, x):
        return self.block(x)


class ZipSumFusion(nn.Cell):
    def __init__(self, num_agents: int = 3):
        super().__init__()
        self.attn_weights = Parameter(ops.ones((num_agents, 1, 1, 1), ms.float32))
        self.softmax = nn.Softmax(axis=0)

    def construct(self, features):
        weights = self.softmax(self.attn_weights)
        return sum(w * f for w, f in zip(weights, features))  # noqa: B905 - GRAPH mode has no strict=


class MAAM(nn.Cell):
    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.agent1 = AgentBlock(channels)
        self.agent2 = AgentBlock(channels)
        self.agent3 = AgentBlock(channels)
        self.fusion = ZipSumFusion(3)
        self.reduce = nn.SequentialCell(nn.Conv2d(channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.ReLU())

    def construct(self, x):
        return self.reduce(self.fusion([self.agent1(x), self.agent2(x), self.agent3(x)]))


class PublicMAAM(nn.Cell):
    """The public MAAM classifier; ``side`` is the images' height and width."""

    def __init__(self, channels: int = 64, out_channels: int = 128, side: int = 32, hidden: int = 256):
        super().__init__()
        self.maam = MAAM(channels, out_channels)
        self.classifier = nn.SequentialCell(
            nn.Flatten(), nn.Dense(out_channels * (side // 2) ** 2, hidden), nn.ReLU(), nn.Dense(hidden, 10)
        )

    def construct(self, x):
        return self.classifier(self.maam(x))


class IndexedFusion(nn.Cell):
    def __init__(self, normalise=None):
        super().__init__()
        self.w = Parameter(Tensor([0.3, -0.2, 0.1], ms.float32))
        self.normalise = normalise or nn.Softmax(axis=0)

    def construct(self, a, b, c):
        w = self.normalise(self.w)
        return w[0] * a + w[1] * b + w[2] * c


class UnpackedFusion(nn.Cell):
    def __init__(self):
        super().__init__()
        self.alpha = Parameter(Tensor([[0.5], [-0.5]], ms.float32))

    def construct(self, first, second):
        w1, w2 = ops.softmax(self.alpha, axis=0)
        return first * w1 + second * w2


class StackedFusion(nn.Cell):
    def __init__(self):
        super().__init__()
        self.logits = Parameter(Tensor([0.1, 0.2, 0.3, 0.4], ms.float32))

    def construct(self, features):
        weights = ops.softmax(self.logits, 0).reshape((4, 1, 1, 1, 1))
        return (ops.stack(features, 0) * weights).sum(0)


class RowLoopFusion(nn.Cell):
    def __init__(self, num_agents: int = 8):
        super().__init__()
        self.num_agents = num_agents
        self.scores = Parameter(ops.zeros((1, num_agents), ms.float32))

    def construct(self, features):
        if len(features) != self.num_agents:
            raise ValueError("wrong number of branches")
        weights = ops.softmax(self.scores, -1)
        total = weights[0, 0] * features[0]
        for i in range(1, self.num_agents):
            total = total + weights[0, i] * features[i]
        return total


class ByHandFusion(nn.Cell):
    """The softmax written out, the sum as a matrix product."""

    def __init__(self):
        super().__init__()
        self.theta = Parameter(Tensor([1.0, 0.0, -1.0], ms.float32))

    def construct(self, features):
        e = ops.exp(self.theta - ops.ReduceMax()(self.theta))
        weights = (e / e.sum()).reshape((1, 3))
        shape = features[0].shape
        flat = ops.stack(features, 0).reshape((3, -1))
        return ops.matmul(weights, flat).reshape(shape)


class Branches(nn.Cell):
    """Convolutions whose outputs meet in ``fusion``, passed as one list or one by one."""

    def __init__(self, fusion: nn.Cell, count: int, *, as_list: bool):
        super().__init__()
        self.branches = nn.CellList([nn.Conv2d(3, 4, 3) for _ in range(count)])
        self.fusion = fusion
        self.as_list = as_list

    def construct(self, x):
        features = [branch(x) for branch in self.branches]
        if self.as_list:
            return self.fusion(features)
        return self.fusion(*features)


class DenseExperts(nn.Cell):
    def __init__(self):
        super().__init__()
        self.experts = nn.CellList([nn.Dense(6, 5) for _ in range(8)])
        self.mix = RowLoopFusion(8)

    def construct(self, x):
        return self.mix(tuple([expert(x) for expert in self.experts]))


class DenseRows(nn.Cell):
    """Dense layers: one with a ReLU of its own, one whose output is read twice, two that share a ReLU."""

    def __init__(self):
        super().__init__()
        self.first = nn.Dense(6, 5)
        self.relu = nn.ReLU()
        self.fork = nn.Dense(5, 5, has_bias=False)
        self.other = nn.ReLU()
        shared = nn.ReLU()
        self.rest = nn.SequentialCell(nn.Dense(5, 4), shared, nn.Dense(4, 3), shared)

    def construct(self, x):
        out = self.relu(self.first(x))
        out = self.fork(out)
        return self.rest(self.other(out)) + out.sum()


class Bottleneck(nn.Cell):
    """A residual bottleneck: only its first three Cells are the pattern, and its ReLU is used three times."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3)
        self.bn2 = nn.BatchNorm2d(4)
        self.conv3 = nn.Conv2d(4, 3, 1)
        self.bn3 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()

    def construct(self, x):
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + x)


class BasicBlock(nn.Cell):
    """A residual block: behind its second normalisation comes a sum, not a ReLU."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3)
        self.bn1 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(3, 3, 3, pad_mode="pad", padding=1)
        self.bn2 = nn.BatchNorm2d(3)

    def construct(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class Stages(nn.Cell):
    """Convolutions with pools of 2x2, of 3x3 and of 2x2 behind; the last two share a ReLU."""

    def __init__(self):
        super().__init__()
        shared = nn.ReLU()
        self.stages = nn.SequentialCell(
            *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.8, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), shared, nn.MaxPool2d(3, 1)),
            *(nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), shared, nn.MaxPool2d(2, 2)),
        )

    def construct(self, x):
        return self.stages(x)


class BnDeclaredFirst(nn.Cell):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(5, momentum=0.8, eps=1e-3)
        self.squeeze = nn.Conv2d(3, 5, 1, pad_mode="pad", padding=0)
        self.act = nn.ReLU()

    def construct(self, x):
        return self.act(self.norm(self.squeeze(x)))


class NestedSequential(nn.Cell):
    def __init__(self):
        super().__init__()
        self.pointwise = nn.SequentialCell(OrderedDict([("conv", nn.Conv2d(3, 5, 1)), ("norm", nn.BatchNorm2d(5))]))
        self.tail = nn.SequentialCell(nn.ReLU(), nn.MaxPool2d(2, 2))

    def construct(self, x):
        y = self.pointwise(x)
        return self.tail(y)


class TwoScales(nn.Cell):
    """Two weighted sums; the first has a reduce of its own behind it, the second also another reader."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(3, 4, 5)
        self.fine = UnpackedFusion()
        self.coarse = UnpackedFusion()
        self.fine_reduce = nn.SequentialCell(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.coarse_reduce = nn.SequentialCell(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU())

    def construct(self, x):
        a, b = self.a(x), self.b(x)
        fine = self.fine_reduce(self.fine(a, b))
        mixed = self.coarse(a, b)
        return fine + self.coarse_reduce(mixed) + ops.reduce_mean(mixed)
