"""Nets as people write them: what fuse must recognise, and what it must leave alone."""

from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, nn, ops


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
