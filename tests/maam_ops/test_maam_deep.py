"""FusedMAAM with two convolutions a branch, and functional.maam_deep: both modes, composition, loading, gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import maam_ops
from maam import create_model
from maam_ops.explain import kernels_run
from maam_ops.functional import maam_deep

from .cells import IMPLS, MeanSquare, Net, assert_near, deep_branch, images, randomised


def operands(net):
    def group(conv, bn):
        return (conv.weight, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)

    branches = [group(agent[0], agent[1]) + group(agent[3], agent[4]) for agent in net.branches]
    return net.attention, branches, *group(net.conv, net.bn)


@pytest.mark.parametrize("impl", IMPLS)
def test_evaluation_is_that_of_the_users_net(mode, impl):
    net = randomised(Net([deep_branch(), deep_branch(kernel=5), deep_branch(kernel=1)]))
    fused, x = net.fused(impl), images(2, 3, 9, 10)
    results = []
    ran = kernels_run(lambda: results.append(fused(x)) or results[0])
    assert_near(results[0], net(x), 2e-5)
    assert {name.split("/")[0] for name in ran} == ({"maam_deep_inference"} if impl == "native" else set())


def test_training_runs_a_branch_as_one_operator_and_evaluation_follows_it(mode):
    """Statistics move, weights change, and the next evaluation sees both."""
    net, twin = (randomised(Net([deep_branch(), deep_branch()])).set_train() for _ in range(2))
    fused, x = net.fused("native").set_train(), images(4, 3, 8, 8)
    losses = []
    for cell, parameters in ((fused, net.trainable_params()), (twin, twin.trainable_params())):
        optimizer = nn.SGD(parameters, 0.1)
        step = ms.value_and_grad(nn.WithLossCell(cell, MeanSquare()), None, optimizer.parameters)
        for _ in range(2):
            value, gradients = step(x, x)
            optimizer(gradients)
        losses.append(float(value.asnumpy()))
    for got, expected in zip(net.get_parameters(), twin.get_parameters(), strict=True):
        assert_near(got, expected, 1e-4)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    for cell in (fused, net, twin):
        cell.set_train(False)
    results = []
    ran = kernels_run(lambda: results.append(fused(x)) or results[0])
    assert any(name.startswith("maam_deep_inference/") for name in ran)
    assert_near(results[0], twin(x), 1e-4)
    assert_near(results[0], net(x), 2e-5)


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_half_images_and_weights(mode, dtype):
    """As in a net of mixed precision: computed in float32, and every result and gradient of its operand's dtype."""
    half, wide = (randomised(Net([deep_branch(), deep_branch(kernel=5)])) for _ in range(2))
    for stored, parameter in zip(half.get_parameters(), wide.get_parameters(), strict=True):
        if stored.ndim == 4:
            stored.set_dtype(dtype)
            parameter.set_data(stored.astype(ms.float32))
    x = images(2, 3, 7, 8).astype(dtype)
    fused = half.fused("native")
    f = fused(x)
    assert f.dtype == dtype
    assert_near(f, wide(x.astype(ms.float32)), 1e-2 if dtype == ms.bfloat16 else 2e-3)

    def gradients(cell, data):
        def loss(data):
            return (cell(data).astype(ms.float32) ** 2).sum()

        by_x, by_parameters = ms.grad(loss, 0, cell.trainable_params())(data)
        return [by_x, *by_parameters]

    # In the order of the fused Cell's parameters.
    by_name = dict(
        zip([p.name for p in wide.trainable_params()], gradients(wide, x.astype(ms.float32))[1:], strict=True)
    )
    got = gradients(fused, x)
    assert got[0].dtype == dtype
    for parameter, gradient in zip(fused.trainable_params(), got[1:], strict=True):
        assert gradient.dtype == parameter.dtype
        assert_near(gradient, by_name[parameter.name], 2e-2 if dtype == ms.bfloat16 else 4e-3)


def test_dynamic_batch_and_size_in_graph_mode(graph):
    net = randomised(Net([deep_branch(), deep_branch()]))
    fused = net.fused("native")
    fused.set_inputs(ms.Tensor(shape=[None, 3, None, None], dtype=ms.float32))
    for shape in ((2, 3, 8, 8), (1, 3, 11, 7)):
        assert_near(fused(images(*shape)), net(images(*shape)), 2e-5)


@pytest.mark.parametrize(
    "odd, reason",
    [
        (lambda: deep_branch(second=5), r"has kernel_size \(5, 5\), not 3"),
        (lambda: deep_branch(stride=2, pool=nn.MaxPool2d(1, 1)), r"has stride \(2, 2\), not 1"),
        (lambda: deep_branch(has_bias=True), "has has_bias True"),
        (lambda: deep_branch(middle=6), "has out_channels 6, not 5"),
        (lambda: deep_branch(pool=nn.MaxPool2d(3, 2, pad_mode="same")), r"has pooling \(3, 2\), not 2x2"),
        (
            lambda: nn.SequentialCell(*list(deep_branch(5, 4))[3:]),
            "is a SequentialCell of .*, not a SequentialCell of twice",
        ),
    ],
)
def test_other_branches_are_not_covered(pynative, odd, reason):
    net = randomised(Net([deep_branch(), odd()]))
    assert net.fused().impl == "composition"
    assert "branch 1" in str(maam_ops.explain(net.fused()))
    with pytest.raises(RuntimeError, match=f"impl=native: not available: branch 1 .*{reason}"):
        net.fused("native")


def test_compare_covers_the_operator(pynative):
    net = randomised(Net([deep_branch(), deep_branch()]))
    report = maam_ops.compare(net.fused(), images(2, 3, 8, 8))
    assert report, str(report)
    assert maam_ops.compare(maam_deep, images(2, 3, 8, 8), *operands(net), grad=False)


def test_the_presets_run_it(pynative):
    for preset in ("deep", "2.3m"):
        plain, fused = (create_model(preset, impl=impl).set_train(False) for impl in ("reference", "auto"))
        ms.load_param_into_net(fused, {p.name: p for p in plain.get_parameters()})
        results = []
        ran = kernels_run(
            lambda fused=fused, results=results: results.append(fused(images(2, 3, 32, 32))) or results[0]
        )
        assert any(name.startswith("maam_deep_inference/") for name in ran)
        assert_near(results[0], plain(images(2, 3, 32, 32)), 1e-4)


class TestErrors:
    def test_channels_of_the_images(self, mode):
        with pytest.raises(ValueError, match=r"branch 0: first weight: got shape \(5, 3, 3, 3\), expected"):
            Net([deep_branch(), deep_branch()]).fused()(images(1, 2, 8, 8)).asnumpy()

    def test_double_precision(self, pynative):
        with pytest.raises(TypeError, match="x: got dtype Float64, expected float32, float16 or bfloat16"):
            maam_deep(images(1, 3, 8, 8).astype(ms.float64), *operands(Net([deep_branch(), deep_branch()])))

    def test_eps(self, pynative):
        with pytest.raises(ValueError, match="eps: got 2 values, expected one, or 5"):
            maam_deep(images(1, 3, 8, 8), *operands(Net([deep_branch(), deep_branch()])), eps=(1e-5, 1e-5))


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_mixed_precision(mode, level):
    """It puts Cells around the normalisations, whose parameters the operators read all the same."""
    net = randomised(Net([deep_branch(), deep_branch()]))
    fused, x = net.fused("native"), images(4, 3, 8, 8)
    expected = fused(x)
    mixed = ms.amp.auto_mixed_precision(fused, level, ms.bfloat16)
    results = []
    ran = kernels_run(lambda: results.append(mixed(x.astype(ms.bfloat16))) or results[0])
    assert any(name.startswith("maam_deep_inference/") for name in ran)
    assert_near(results[0].astype(ms.float32), expected, 0.05)
    training = randomised(Net([deep_branch(), deep_branch()])).fused("native").set_train()
    mixed = ms.amp.auto_mixed_precision(training, level, ms.bfloat16)
    ran = kernels_run(lambda: mixed(x.astype(ms.bfloat16)))
    assert any(name.startswith("agent_block_forward/") for name in ran), ran
