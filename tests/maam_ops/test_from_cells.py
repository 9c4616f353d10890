"""What fused Cells are made from: layers of exactly the kinds whose work they do."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

import maam_ops

pytestmark = pytest.mark.usefixtures("pynative")


class Lora(nn.Dense):
    def construct(self, x):
        return super().construct(x) + 100


class Scaled(nn.Conv2d):
    def construct(self, x):
        return super().construct(x) * 2


class Mixer(maam_ops.FusedAgentAggregate):
    def construct(self, *branches):
        return -super().construct(*branches)


def alpha():
    return Parameter(Tensor(np.zeros(2), ms.float32), name="alpha")


def conv():
    return nn.Conv2d(4, 5, 1)


def bn():
    return nn.BatchNorm2d(5)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: maam_ops.FusedDense.from_cell(Lora(3, 2)), "FusedDense: layer: got a Lora, expected nn.Dense itself"),
        (lambda: maam_ops.FusedDense.from_cell(conv()), "FusedDense: layer: got a Conv2d, expected nn.Dense itself"),
        (lambda: maam_ops.FusedDense.from_cell(None), "FusedDense: layer: got a NoneType"),
        (
            lambda: maam_ops.FusedReduce.from_cells(Scaled(4, 5, 1), bn()),
            "FusedReduce: conv: got a Scaled, expected nn.Conv2d itself",
        ),
        (
            lambda: maam_ops.FusedReduce.from_cells(conv(), nn.BatchNorm1d(5)),
            "FusedReduce: bn: got a BatchNorm1d, expected nn.BatchNorm2d itself",
        ),
        (
            lambda: maam_ops.FusedAggregateReduce.from_cells(alpha(), bn(), conv()),
            "FusedAggregateReduce: conv: got a BatchNorm2d",
        ),
        (
            lambda: maam_ops.FusedAggregateReduce.from_cells(Mixer(2), conv(), bn()),
            "FusedAggregateReduce: alpha: got a Mixer, expected a Parameter or a FusedAgentAggregate",
        ),
        (
            lambda: maam_ops.FusedMAAM.from_cells([nn.ReLU(), None], alpha(), conv(), bn()),
            "FusedMAAM: branches: got a NoneType at 1, expected a Cell",
        ),
        (
            lambda: maam_ops.FusedMAAM.from_cells([nn.ReLU()] * 2, [0.5, 0.5], conv(), bn()),
            "alpha: got a list, expected a Parameter or a FusedAgentAggregate",
        ),
    ],
)
def test_what_would_lose_its_own_behaviour_is_refused(build, message):
    with pytest.raises(TypeError, match=f"maam_ops.*{message}"):
        build()
