"""The `authors` classifier's training step in PyTorch, in the forms a careful user would try. Needs torch and NumPy."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...bench.cases import Arrays, ModelLosses
from ...bench.sides import Candidate, Prepared

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4


class Maam(nn.Module):
    """Three branches conv3x3-BN-ReLU-maxpool, softmax-weighted sum, conv1x1-BN-ReLU, two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 64, 3, padding=1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(3))
        self.alpha = nn.Parameter(torch.ones(3, 1, 1, 1))
        self.reduce, self.norm = nn.Conv2d(64, 128, 1, bias=False), nn.BatchNorm2d(128)
        self.hidden, self.last = nn.Linear(32768, 256), nn.Linear(256, 10)
        with torch.no_grad():
            for name, parameter in self._named_as_in_mindspore().items():
                parameter.copy_(torch.from_numpy(ModelLosses.weight(name, tuple(parameter.shape))))

    def _named_as_in_mindspore(self) -> dict[str, nn.Parameter]:
        branches = {f"maam.agent{i}.block.0.weight": conv.weight for i, conv in enumerate(self.convs, start=1)}
        return branches | {
            "maam.reduce.0.weight": self.reduce.weight,
            "classifier.1.weight": self.hidden.weight,
            "classifier.1.bias": self.hidden.bias,
            "classifier.3.weight": self.last.weight,
            "classifier.3.bias": self.last.bias,
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.alpha, 0)
        mixed = sum(
            weights[i] * functional.max_pool2d(functional.relu(norm(conv(x))), 2)
            for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True))
        )
        features = functional.relu(self.norm(self.reduce(mixed)))
        return self.last(functional.relu(self.hidden(features.flatten(1))))


def prepare(case: ModelLosses, inputs: Arrays) -> Prepared:
    """Eager and compiled, both memory layouts; Adam in its fused form. The fastest stands for PyTorch."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return Prepared(
        {
            f"{'compiled' if compiled else 'eager'}, {str(layout).rpartition('.')[2]}": _form(inputs, compiled, layout)
            for compiled in (False, True)
            for layout in (torch.contiguous_format, torch.channels_last)
        }
    )


def _form(inputs: Arrays, compiled: bool, layout: torch.memory_format) -> Candidate:
    net = Maam().to(memory_format=layout)
    images = torch.from_numpy(inputs["images"]).to(memory_format=layout)
    labels = torch.from_numpy(inputs["labels"]).long()
    normed = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    # As in MindSpore, batch normalisation is not decayed.
    groups = [
        {"params": [p for p in net.parameters() if id(p) not in normed], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in net.parameters() if id(p) in normed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.Adam(groups, LEARNING_RATE, fused=True)
    forward = torch.compile(net) if compiled else net

    def run() -> Arrays:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach().numpy()}

    def verify() -> Arrays:
        return {"losses": np.array([float(run()["loss"]) for _ in range(ModelLosses.STEPS)])}

    return Candidate(run, verify)
