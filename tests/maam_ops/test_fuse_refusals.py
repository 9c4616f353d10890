"""Near-misses: nets that resemble the patterns and must be left exactly as they are, with the reason said."""

from __future__ import annotations

import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from maam_ops import fusion
from maam_ops.fusion import fuse

from . import fuse_nets as nets
from . import fuse_odd_nets as odd

pytestmark = pytest.mark.usefixtures("pynative")
IMAGES = Tensor(np.random.default_rng(0).normal(size=(2, 3, 8, 8)), ms.float32)


def summed(fusion_cell: nn.Cell) -> nn.Cell:
    return nets.Branches(fusion_cell, 3, as_list=False)


def hooked() -> nn.Cell:
    net = odd.Reduce()
    net.row[1].register_forward_hook(lambda cell, inputs, output: None)
    return net


def frozen() -> nn.Cell:
    net = odd.Reduce()
    net.row[1].gamma.requires_grad = False
    return net


def half() -> nn.Cell:
    net = odd.Reduce()
    net.row[0].to_float(ms.float16)
    return net


# net, path of the refusal, what its reason must say
NEAR_MISSES = {
    "sigmoid weights": (lambda: summed(nets.IndexedFusion(nn.Sigmoid())), "fusion", "branches get .* where softmax"),
    "no normalisation": (lambda: summed(nets.IndexedFusion(nn.Identity())), "fusion", "branches get 0.*softmax gives"),
    "temperature": (lambda: summed(nets.IndexedFusion(odd.Temperature())), "fusion", "where softmax gives"),
    "weights not trained": (lambda: summed(nets.IndexedFusion(odd.StoppedGradient())), "fusion", "its gradient"),
    "dropout on the weights": (lambda: summed(nets.IndexedFusion(odd.DroppedWeights())), "fusion", "something else"),
    "weights shared by two Cells": (odd.SharedWeights, "second", "is shared by .* and second.w"),
    "one branch given twice": (odd.SameBranchTwice, "fusion", "one tensor is passed as several branches"),
    "weights used twice": (odd.CalledTwice, "fusion", "runs 2 times in one forward pass"),
    "counts its calls": (lambda: summed(odd.CountingFusion()), "fusion", "changes its own attributes .*calls"),
    "depends on an attribute": (lambda: summed(odd.SwitchableFusion()), "fusion", "depends on self.uniform"),
    "sum beside its branches": (odd.InlineSum, "(the net)", "move the weights and the sum into a Cell"),
    "separate weights": (lambda: nets.Branches(odd.ThreeScalars(), 2, as_list=False), "fusion", "separate Parameters"),
    "convolution read twice": (odd.SharedConvOutput, "conv", "is read 2 times, expected once, by self.bn"),
    "ReLU is a function": (odd.FunctionalRelu, "conv", "expected one nn.ReLU"),
    "row shown by a run only": (odd.LoopedCells, "layers.0", "not by the Cell that holds it"),
    "one convolution at two places": (odd.SameConvTwice, "first.0", "stands at first.0 and second.0"),
    "5x5": (lambda: odd.Reduce(nn.Conv2d(3, 4, 5)), "row.0", r"kernel_size \(5, 5\), expected \(1, 1\) or \(3, 3\)"),
    "3x3, stride": (lambda: odd.Reduce(nn.Conv2d(3, 4, 3, stride=2)), "row.0", r"stride \(2, 2\)"),
    "3x3, smaller": (lambda: odd.Reduce(nn.Conv2d(3, 4, 3, pad_mode="valid")), "row.0", "padding 0, expected 1"),
    "3x3, dilated": (lambda: odd.Reduce(nn.Conv2d(3, 4, 3, dilation=2)), "row.0", r"dilation \(2, 2\)"),
    "stride": (lambda: odd.Reduce(nn.Conv2d(3, 4, 1, stride=2)), "row.0", r"stride \(2, 2\)"),
    "padding": (lambda: odd.Reduce(nn.Conv2d(3, 4, 1, pad_mode="pad", padding=1)), "row.0", "padding 1, expected 0"),
    "groups": (lambda: odd.Reduce(nn.Conv2d(3, 3, 1, group=3), nn.BatchNorm2d(3)), "row.0", "group 3"),
    "bias": (lambda: odd.Reduce(nn.Conv2d(3, 4, 1, has_bias=True)), "row.0", "has_bias=False"),
    "affine off": (lambda: odd.Reduce(bn=nn.BatchNorm2d(4, affine=False)), "row.0", "gamma or beta is not trained"),
    "gamma frozen": (frozen, "row.0", "gamma or beta is not trained"),
    "statistics fixed": (
        lambda: odd.Reduce(bn=nn.BatchNorm2d(4, use_batch_statistics=False)), "row.0", "fixed to False"
    ),
    "another activation": (lambda: odd.Reduce(relu=nn.LeakyReLU()), "row.0", "goes to LeakyReLU"),
    "a hook": (hooked, "row.0", "row.1: a forward hook is attached"),
    "a precision of its own": (half, "row.0", "to_float.* is set"),
}  # fmt: skip


@pytest.mark.parametrize("case", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_miss_is_left_alone(case):
    build, path, reason = case
    net = build()
    cells = [id(cell) for _, cell in net.cells_and_names()]
    values = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    report = fuse(net, probe=IMAGES, impl="reference")
    assert report.swaps == ()
    refusals = {refusal.path: refusal.reason for refusal in report.refusals}
    assert path in refusals
    assert re.search(reason, refusals[path]), refusals[path]
    assert [id(cell) for _, cell in net.cells_and_names()] == cells
    for parameter in net.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), values[parameter.name])


class ReadsItsNorm(nn.Cell):
    """Fine by structure, but its construct needs the very Cell that would be replaced."""

    def __init__(self):
        super().__init__()
        self.first = odd.Reduce()
        self.second = odd.Reduce(nn.Conv2d(4, 4, 1))

    def construct(self, x):
        return self.second(self.first(x)) * self.first.row[0].out_channels


def test_what_fails_the_probe_is_taken_out_and_the_rest_stays():
    net = ReadsItsNorm()
    before = net(IMAGES).asnumpy()
    report = fuse(net, probe=IMAGES, impl="reference")
    assert [swap.path for swap in report.swaps] == ["second.row.1"]
    assert [refusal.path for refusal in report.refusals] == ["first.row.0"]
    assert "taken out again: AttributeError" in report.refusals[0].reason
    assert isinstance(net.first.row[0], nn.Conv2d) and isinstance(net.first.row[1], nn.BatchNorm2d)
    np.testing.assert_allclose(net(IMAGES).asnumpy(), before, rtol=1e-4, atol=1e-5)


def test_an_operator_that_computes_something_else_is_caught(monkeypatch):
    class Wrong(fusion.swap.FusedAgentAggregate):
        def construct(self, *branches):
            return super().construct(*branches) * 1.01

    monkeypatch.setattr(fusion.swap, "FusedAgentAggregate", Wrong)
    net = summed(nets.IndexedFusion())
    report = fuse(net, probe=IMAGES, impl="reference")
    assert report.swaps == () and isinstance(net.fusion, nets.IndexedFusion)
    assert "output 0 in evaluation: relative error 1.0e-02, tolerance 2e-04" in report.refusals[0].reason


class NearZero(nn.Cell):
    """Its ReLU gets a value within rounding of 0: the last place of the input decides over the whole gradient."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(2, 3, Tensor([[1.0, -1.0]] * 3), has_bias=False)
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(self.dense(x))


@pytest.mark.parametrize("offset, problem", [(2e-7, None), (1e-3, "gradient of dense.weight in evaluation")])
def test_a_net_that_rounding_decides_over_is_not_held_to_it(offset, problem, monkeypatch):
    class Rounds(fusion.swap.FusedDense):
        """Wrong by less than the tolerance of any output."""

        def construct(self, x):
            return super().construct(x - Tensor([[0.0, offset]]))

    monkeypatch.setattr(fusion.swap, "FusedDense", Rounds)
    # x1 - x2 is negative by a last place, and positive after the subtraction.
    probe = Tensor([[1.0, 1.0 + 1.2e-7], [4.0, 1.0]] if offset < 1e-6 else [[1.0, 1.0 + 1e-4], [4.0, 1.0]], ms.float32)
    report = fuse(NearZero(), probe=probe, impl="reference")
    assert bool(report.swaps) == (problem is None), report
    if problem:
        assert problem in report.refusals[0].reason


def test_one_element_per_channel_is_refused_with_the_operator_s_reason():
    report = fuse(odd.Reduce(), probe=Tensor(np.ones((1, 3, 1, 1)), ms.float32), impl="reference")
    assert report.swaps == ()
    assert "expected at least 2 in training" in report.refusals[0].reason


def test_a_net_that_differs_from_run_to_run_is_said_to():
    class Random(nn.Cell):
        def __init__(self):
            super().__init__()
            self.reduce = odd.Reduce()

        def construct(self, x):
            return ops.dropout(self.reduce(x), 0.5, self.training)

    net = Random()
    report = fuse(net, probe=IMAGES, impl="reference")
    assert report.swaps == () and isinstance(net.reduce.row[0], nn.Conv2d)
    assert "the net differs from run to run (output 0 in training" in report.refusals[0].reason


def test_no_probe_no_change():
    class TwoInputs(nn.Cell):
        def __init__(self):
            super().__init__()
            self.reduce = odd.Reduce()

        def construct(self, x, y):
            return self.reduce(x) + y

    net = TwoInputs()
    report = fuse(net)
    assert report.swaps == () and "pass probe=" in report.refusals[0].reason
    assert len(fuse(net, probe=(IMAGES, Tensor(1.0, ms.float32)), impl="reference").swaps) == 1
