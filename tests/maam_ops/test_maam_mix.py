"""FusedMix and functional.maam_mix in MindSpore: both modes, one branch, a fixed mean, composition, gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import maam_mix

from .cells import Square, assert_near, branch, images, names, randomised


class Plain(nn.Cell):
    """A user's branches and their sum, unfused."""

    def __init__(self, branches, learned):
        super().__init__()
        self.branches = nn.CellList(branches)
        self.alpha = None
        if learned:
            self.alpha = ms.Parameter(ms.Tensor(np.linspace(-1, 1, len(branches)).astype(np.float32)))

    def construct(self, x):
        total = 0
        for i, agent in enumerate(self.branches):
            weight = 1 / len(self.branches) if self.alpha is None else ops.softmax(self.alpha, 0)[i]
            total = total + weight * agent(x)
        return total

    def fused(self, impl="auto"):
        return maam_ops.FusedMix(list(self.branches), self.alpha, impl)


def _step(cell, parameters, x):
    value, (by_x, by_parameters) = ms.value_and_grad(Square(cell), 0, parameters)(x)
    return [value, by_x, *by_parameters]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kernels, learned", [((3,), False), ((3, 5), True), ((3, 3, 3), False)])
def test_results_and_gradients_are_those_of_the_layers(mode, kernels, learned, training):
    plain, twin = (randomised(Plain([branch(kernel=k) for k in kernels], learned)) for _ in range(2))
    fused, x = twin.fused("native"), images(3, 3, 9, 10)
    for cell in (plain, fused, twin):
        cell.set_train(training)
    results = []
    ran = kernels_run(lambda: results.extend(_step(fused, twin.trainable_params(), x)) or results)
    assert names(ran) >= ({"maam_mix_training", "maam_mix_backward"} if training else {"maam_mix"})
    for got, expected in zip(results, _step(plain, plain.trainable_params(), x), strict=True):
        assert_near(got, expected, 1e-4)
    for got, expected in zip(twin.get_parameters(), plain.get_parameters(), strict=True):
        assert_near(got, expected)  # the running statistics


def test_a_mean_has_no_parameter_of_its_own(pynative):
    net = Plain([branch(), branch()], learned=False)
    before = {p.name: p for p in net.get_parameters()}
    assert {p.name: p for p in net.fused().get_parameters()} == before


def test_other_branches_run_as_they_are(pynative):
    net = randomised(Plain([branch(), branch(pool=nn.MaxPool2d(2, 2, pad_mode="same"))], learned=True))
    fused, x = net.fused(), images(2, 3, 8, 8)
    assert_near(fused(x), net(x))
    assert "pad_mode of the pooling" in str(maam_ops.explain(fused)) and fused.impl == "composition"
    with pytest.raises(RuntimeError, match="FusedMix: impl=native: not available: branch 1 has pad_mode"):
        net.fused("native")


class Same(nn.Cell):
    def construct(self, x):
        return x * 1


def test_other_branches_of_half_data_are_summed_in_float32(pynative):
    alpha = ms.Parameter(ms.Tensor([0.3, 0.2, 0.9], ms.float32))
    x = images(2, 3, 8, 8).astype(ms.float16)
    np.testing.assert_array_equal(maam_ops.FusedMix([Same(), Same(), Same()], alpha)(x).asnumpy(), x.asnumpy())


def test_compare_covers_the_operator(pynative):
    net = randomised(Plain([branch(), branch()], learned=True))
    operands = [[*(a[0].weight, a[1].gamma, a[1].beta, a[1].moving_mean, a[1].moving_variance)] for a in net.branches]
    report = maam_ops.compare(maam_mix, images(2, 3, 8, 8), net.alpha, operands)
    assert report, str(report)


def test_dynamic_batch_in_graph_mode(graph):
    net = randomised(Plain([branch()], learned=False)).set_train()
    fused = net.fused("native")
    fused.set_inputs(ms.Tensor(shape=[None, 3, 8, 8], dtype=ms.float32))
    for batch in (2, 5):
        x = images(batch, 3, 8, 8)
        np.testing.assert_allclose(fused(x).asnumpy(), net(x).asnumpy(), rtol=1e-4, atol=1e-4)


def test_wrong_numbers_are_named(pynative):
    with pytest.raises(ValueError, match="FusedMix: branches: got 9, expected 1 to 8"):
        maam_ops.FusedMix([branch()] * 9)
    with pytest.raises(ValueError, match="FusedMix: alpha: got 3 elements, expected 2"):
        maam_ops.FusedMix([branch(), branch()], ms.Parameter(ms.Tensor(np.ones(3, np.float32))))
