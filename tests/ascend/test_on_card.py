"""What somebody with an Ascend card runs: `pytest -m ascend tests/ascend`, after csrc/ascend_build.sh."""

from __future__ import annotations

import importlib

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import maam_ops
from maam_ops.ascend import aggregate_aclnn, reduce_aclnn
from maam_ops.functional import agent_aggregate
from tests.maam_ops import oracle

REASON = aggregate_aclnn.available()
pytestmark = [pytest.mark.ascend, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

TOLERANCE = {ms.float32: 2e-6, ms.float16: 2e-3, ms.bfloat16: 1.6e-2}
SHAPES = [(1,), (7,), (129,), (2, 3, 5, 7), (5121,), (64, 128, 16, 16)]


def tensors(shape, count, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.standard_normal(shape).astype(np.float32)).astype(dtype) for _ in range(count)]


def wide(tensor):
    return tensor.astype(ms.float32).asnumpy().astype(np.float64)


class Mix(nn.Cell):
    """A scalar whose gradients are those of agent_aggregate for a given incoming gradient."""

    def __init__(self, incoming):
        super().__init__()
        self.incoming = incoming

    def construct(self, alpha, *branches):
        return (agent_aggregate(alpha, *branches, impl="ascendc") * self.incoming).sum()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ascendc_aggregate_matches_the_oracle(mode, dtype, shape):
    alpha = Tensor(np.array([0.3, -0.2, 1.0], np.float32))
    branches, (incoming,) = tensors(shape, 3, dtype), tensors(shape, 1, dtype, seed=1)
    g = agent_aggregate(alpha, *branches, impl="ascendc")
    dalpha, *da = ms.grad(Mix(incoming), (0, 1, 2, 3))(alpha, *branches)

    a, dg = np.stack([wide(branch) for branch in branches]), wide(incoming)
    w = oracle.softmax(wide(alpha))
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(wide(g), np.tensordot(w, a, 1), **tolerance)
    for k in range(3):
        np.testing.assert_allclose(wide(da[k]), w[k] * dg, **tolerance)
    dots = (a * dg).reshape(3, -1).sum(1)
    scale = np.abs(a * dg).sum() + 1
    np.testing.assert_allclose(wide(dalpha), w * (dots - w @ dots), rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("count", range(2, 9))
def test_ascendc_cell_of_any_number_of_branches(pynative, count):
    cell = maam_ops.FusedAgentAggregate(count, np.linspace(-1, 1, count), impl="ascendc")
    branches = tensors((3, 1001), count, ms.float32)
    expected = oracle.aggregate(wide(cell.alpha), [wide(branch) for branch in branches])
    np.testing.assert_allclose(wide(cell(*branches)), expected, rtol=2e-6, atol=2e-6)


def test_ascendc_alpha_gradient_has_the_same_bits_each_time(pynative):
    alpha, branches = Tensor(np.ones(3, np.float32)), tensors((64, 128, 16, 16), 3, ms.float32)
    gradient = ms.grad(Mix(branches[0]))
    bits = {gradient(alpha, *branches).asnumpy().tobytes() for _ in range(5)}
    assert len(bits) == 1


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16], ids=str)
def test_tbe_aggregate_matches_the_oracle(mode, dtype):
    op = importlib.import_module("maam_ops.ascend.aggregate_tbe").make_op(3)
    branches = tensors((4, 16, 8, 8), 3, dtype)
    w = oracle.softmax(np.array([0.3, -0.2, 1.0]))
    g = op(ops.split(Tensor(w.astype(np.float32)), 1), tuple(branches))
    expected = np.tensordot(w, np.stack([wide(branch) for branch in branches]), 1)
    np.testing.assert_allclose(wide(g), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(2, 64, 128, 8, 8), (1, 3, 5, 7, 3), (64, 64, 128, 16, 16)], ids=str)
def test_ascendc_reduce_matches_the_oracle(pynative, dtype, shape):
    batch, channels, outputs, height, width = shape
    (g,), (weight,) = tensors((batch, channels, height, width), 1, dtype), tensors((outputs, channels, 1, 1), 1, dtype)
    scale, shift = tensors((outputs,), 2, ms.float32, seed=2)
    f = reduce_aclnn.make_op()(g, weight, scale, shift)
    exact = oracle.conv1x1(wide(g), wide(weight)) * wide(scale).reshape(1, -1, 1, 1) + wide(shift).reshape(1, -1, 1, 1)
    size = np.abs(exact).max()
    np.testing.assert_allclose(wide(f), np.maximum(exact, 0), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * size)
