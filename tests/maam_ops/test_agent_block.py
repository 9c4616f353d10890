"""FusedAgentBlock and functional.agent_block in MindSpore: both modes, statistics, gradients by images and weights."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import maam_ops
from maam_ops.agent_block import operands_of
from maam_ops.explain import kernels_run
from maam_ops.functional import agent_block

from .agent_block_case import AgentBlockCase
from .cells import Square, assert_near, deep_branch, images, randomised
from .layers import EPS, pool_windows


def twins(**options):
    return tuple(randomised(deep_branch(**options)).set_train() for _ in range(2))


@pytest.mark.parametrize("kernel", [3, 5])
def test_training_is_that_of_the_layers(mode, kernel):
    """Odd images: pooling leaves a row and a column out."""
    plain, block = twins(kernel=kernel)
    fused, x = maam_ops.FusedAgentBlock(block, "native"), images(3, 3, 9, 11)
    for got, expected in zip(_step(fused, x), _step(plain, x), strict=True):
        assert_near(got, expected, 1e-4)
    for got, expected in zip(block.get_parameters(), plain.get_parameters(), strict=True):
        assert_near(got, expected)  # the running statistics


def _step(cell, x):
    value, (by_x, by_parameters) = ms.value_and_grad(Square(cell), 0, cell.trainable_params())(x)
    return [value, by_x, *by_parameters]


def test_kernels_run_in_training_and_layers_in_evaluation(pynative):
    fused, x = maam_ops.FusedAgentBlock(randomised(deep_branch())), images(2, 3, 8, 8)
    ran = kernels_run(lambda: fused.set_train()(x))
    assert {name.split("/")[0] for name in ran} == {"agent_block_forward"}
    assert not kernels_run(lambda: fused.set_train(False)(x))
    assert "agent_block: native" in str(maam_ops.explain(fused))


def test_rounding_decides_among_maxima_in_the_layers_too(pynative):
    """Their gradient is the exact one of the pixels that are maxima to them, which are others than exact ones."""
    case = AgentBlockCase((4, 3, 32, 30), 16, 32).mirrored()
    block = deep_branch(middle=16, channels=32, eps=EPS)
    for parameter, array in zip(sum(operands_of(block), ()), (*case.first, *case.second), strict=True):
        parameter.set_data(ms.Tensor(array.data))
    block.set_train()
    x, da = ms.Tensor(case.x.data), ms.Tensor(case.da.data)
    taken = pool_windows(block[:-1](x).asnumpy())
    taken = np.arange(4) == taken.argmax(-1)[..., None]
    weight = block[3].weight
    got = ms.grad(lambda x: (block(x) * da).sum(), None, [weight])(x)[0].asnumpy()
    windows, exact = case.windows()
    assert ((taken != exact).any(-1) & (windows.max(-1) > 0)).sum() > 20
    dw2 = case.gradients.index("dW2")
    of_exact, of_taken = (case.expected(first)[1][dw2] for first in (exact, taken))
    unit = np.abs(of_exact).max()
    np.testing.assert_allclose(got, of_taken, rtol=0, atol=1e-5 * unit)
    assert np.abs(got - of_exact).max() > 1e-3 * unit


def test_parameters_keep_object_and_name(pynative):
    block = deep_branch()
    before = {p.name: p for p in block.get_parameters()}
    fused = maam_ops.FusedAgentBlock(block)
    assert all(before[p.name] is p for p in fused.get_parameters())


class GradientByWeights(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.gradient = ms.grad(Square(net), None, net.trainable_params())

    def construct(self, x):
        return self.gradient(x)


def test_a_graph_drops_the_gradient_by_images_that_nobody_asks_for(graph):
    fused = maam_ops.FusedAgentBlock(randomised(deep_branch()).set_train(), "native")
    count = maam_ops.graph.count_kernels(GradientByWeights(fused), images(2, 3, 8, 8))
    assert count.by_type["Custom:AgentBlockBackward"] == 1
    assert "Custom:AgentBlockInputGradient" not in count.by_type


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_half_images_are_computed_in_float32(pynative, dtype):
    first, second = operands_of(randomised(deep_branch()))
    x = images(2, 3, 8, 8).astype(dtype)
    a = agent_block(x, first, second, impl="native")[0]
    assert a.dtype == dtype
    expected = agent_block(x.astype(ms.float32), first, second, impl="reference")[0]
    assert_near(a, expected.astype(dtype), 1e-2 if dtype == ms.bfloat16 else 2e-3)


def test_momentum_and_eps_of_each_normalisation(pynative):
    first, second = operands_of(randomised(deep_branch()))
    options = {"momentum": (0.5, 0.75), "eps": (0.1, 1e-3)}
    results = [agent_block(images(2, 3, 8, 8), first, second, impl=impl, **options) for impl in ("native", "reference")]
    for got, expected in zip(*results, strict=True):
        assert_near(got, expected, 2e-5)


def test_compare_covers_the_operator(pynative):
    first, second = operands_of(randomised(deep_branch()))
    report = maam_ops.compare(agent_block, images(2, 3, 8, 8), first, second)
    assert report, str(report)


def test_dynamic_batch_in_graph_mode(graph):
    plain, block = twins()
    fused = maam_ops.FusedAgentBlock(block, "native").set_train()
    fused.set_inputs(ms.Tensor(shape=[None, 3, 8, 8], dtype=ms.float32))
    for batch in (2, 5):
        x = images(batch, 3, 8, 8)
        np.testing.assert_allclose(fused(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-4)


class TestErrors:
    def test_another_block(self, pynative):
        with pytest.raises(ValueError, match="block has kernel_size"):
            maam_ops.FusedAgentBlock(deep_branch(second=5))
        with pytest.raises(ValueError, match="block is a Dense, not a SequentialCell of twice"):
            maam_ops.FusedAgentBlock(nn.Dense(2, 2))

    def test_shapes(self, mode):
        first, second = operands_of(deep_branch())
        with pytest.raises(ValueError, match=r"first weight: got shape \(5, 3, 3, 3\), expected \(M, 2, k, k\)"):
            agent_block(images(1, 2, 8, 8), first, second)
        with pytest.raises(ValueError, match=r"x: got shape \(0, 3, 8, 8\)"):
            agent_block(images(0, 3, 8, 8), first, second)

    def test_pairs(self, pynative):
        with pytest.raises(ValueError, match="eps: got 3 values, expected one, or 2"):
            agent_block(images(1, 3, 8, 8), *operands_of(deep_branch()), eps=(1.0, 1.0, 1.0))
