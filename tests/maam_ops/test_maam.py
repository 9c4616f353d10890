"""FusedMAAM and functional.maam in MindSpore: both modes, both implementations, composition, loading, gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import maam

from .cells import IMPLS, MeanSquare, Net, assert_near, branch, deep_branch, images, names, randomised

of_either_depth = pytest.mark.parametrize("agent", [branch, deep_branch])


def operands(net):
    groups = [(c.weight, b.gamma, b.beta, b.moving_mean, b.moving_variance) for c, b in _conv_norms(net)]
    return net.attention, groups[:-1], *groups[-1]


def _conv_norms(net):
    return [(agent[0], agent[1]) for agent in net.branches] + [(net.conv, net.bn)]


@pytest.mark.parametrize("impl", IMPLS)
def test_evaluation_is_that_of_the_users_net(mode, impl):
    net = randomised(Net([branch(), branch(kernel=5), branch(kernel=1)]))
    fused, x = net.fused(impl), images(2, 3, 9, 10)
    results = []
    ran = kernels_run(lambda: results.append(fused(x)) or results[0])
    assert_near(results[0], net(x))
    assert {name.split("/")[0] for name in ran} == ({"maam_inference"} if impl == "native" else set())


@pytest.mark.parametrize("impl", IMPLS)
def test_evaluation_follows_training(mode, impl):
    """Statistics move, weights change, and the next evaluation sees both."""
    net, twin = (randomised(Net([branch(), branch(kernel=5)])).set_train() for _ in range(2))
    fused, x = net.fused(impl).set_train(), images(4, 3, 8, 8)
    losses = []

    def train(cell, parameters):
        optimizer = nn.SGD(parameters, 0.1)
        step = ms.value_and_grad(nn.WithLossCell(cell, MeanSquare()), None, optimizer.parameters)
        for _ in range(2):
            value, gradients = step(x, x)
            optimizer(gradients)
        losses.append(float(value.asnumpy()))

    ran = names(kernels_run(lambda: train(fused, net.trainable_params())))
    train(twin, twin.trainable_params())
    native = impl == "native"
    assert ({"maam_training", "maam_backward"} <= ran) if native else not ran
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for cell in (fused, net, twin):
        cell.set_train(False)
    results = []
    ran = kernels_run(lambda: results.append(fused(x)) or results[0])
    assert names(ran) == ({"maam_inference"} if native else set())
    assert_near(results[0], twin(x), 1e-4)
    assert_near(results[0], net(x))


class SumOfProducts(nn.Cell):
    def __init__(self, net, weights):
        super().__init__()
        self.net, self.weights = net, weights

    def construct(self, x):
        return (self.net(x) * self.weights).sum()


def test_every_gradient_in_training(mode):
    net, twin = (randomised(Net([branch(), branch(kernel=1)])) for _ in range(2))
    x, weights = images(3, 3, 9, 8), images(3, 6, 4, 4, seed=1)
    gradients = []
    for cell, parameters in ((net.fused("native"), net.trainable_params()), (twin, twin.trainable_params())):
        loss = SumOfProducts(cell, weights).set_train()
        by_x, by_parameters = ms.grad(loss, 0, parameters)(x)
        gradients.append([by_x, *by_parameters])
    for got, expected in zip(*gradients, strict=True):
        assert_near(got, expected, 1e-5)
    for got, expected in zip(net.get_parameters(), twin.get_parameters(), strict=True):
        assert_near(got, expected)


def test_a_graph_computes_no_gradient_that_nobody_asks_for(graph):
    net = randomised(Net([branch(), branch()]))
    loss = SumOfProducts(net.fused("native"), images(2, 6, 4, 4)).set_train()
    step = ms.value_and_grad(loss, None, net.trainable_params())
    ran = kernels_run(lambda: step(images(2, 3, 8, 8))[1][0])
    assert names(ran) == {"maam_training", "maam_backward"}


def test_many_input_channels_train_by_composition(pynative):
    branches = [nn.SequentialCell(nn.Conv2d(17, 4, 3), *list(branch())[1:]) for _ in range(2)]
    net = randomised(Net(branches))
    fused, x = net.fused("native").set_train(), images(2, 17, 8, 8)
    assert "training composes the branches: 17 input channels" in str(maam_ops.explain(fused, x))
    assert names(kernels_run(lambda: fused(x))) == {"aggregate_reduce_training"}
    with pytest.raises(RuntimeError, match="impl=native: not available: 17 input channels"):
        maam(x, *operands(net), training=True, impl="native")
    fused.set_train(False)
    assert names(kernels_run(lambda: fused(x))) == {"maam_inference"}


@of_either_depth
def test_loaded_weights_count_at_once(mode, agent):
    net, other = (randomised(Net([agent(), agent()]), seed) for seed in (0, 1))
    fused, x = net.fused("native"), images(1, 3, 8, 8)
    rtol = 2e-5 if agent is deep_branch else 1e-5  # F(4x4, 3x3) rounds about twice as much as a direct sum
    before = fused(x).asnumpy()
    ms.load_param_into_net(net, {p.name: p for p in other.get_parameters()})
    assert_near(fused(x), other(x), rtol)
    assert not np.allclose(fused(x).asnumpy(), before)
    for norm in (net.branches[1][-3], net.bn):
        norm.gamma.set_data(-norm.gamma)
        assert_near(fused(x), net(x), rtol)


def test_parameters_keep_object_name_and_order(pynative):
    net = Net([branch(), branch()])
    before = {p.name: p for p in net.get_parameters()}
    fused = net.fused()
    after = {p.name: p for p in fused.get_parameters()}
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


@of_either_depth
def test_gradient_in_evaluation(mode, agent):
    """Not what the operator is for, but never silently zero."""
    net = randomised(Net([agent(), agent(kernel=5)]))
    x, parameters = images(2, 3, 7, 8), net.trainable_params()

    def gradients(cell):
        def loss(data):
            return (cell(data) ** 2).sum()

        by_x, by_parameters = ms.grad(loss, 0, parameters)(x)
        return [by_x, *by_parameters]

    for got, expected in zip(gradients(net.fused("native")), gradients(net), strict=True):
        assert_near(got, expected, 1e-4)


@of_either_depth
@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_half_images_are_computed_in_float32(pynative, dtype, agent):
    net = randomised(Net([agent(), agent()]))
    x = images(2, 3, 8, 8).astype(dtype)
    f = net.fused("native")(x)
    assert f.dtype == dtype
    assert_near(f, net(x.astype(ms.float32)).astype(dtype), 1e-2 if dtype == ms.bfloat16 else 2e-3)


def test_dynamic_batch_and_size_in_graph_mode(graph):
    net = randomised(Net([branch(), branch()]))
    fused = net.fused("native")
    fused.set_inputs(Tensor(shape=[None, 3, None, None], dtype=ms.float32))
    for training in (False, True):
        fused.set_train(training)
        net.set_train(training)
        for shape in ((2, 3, 8, 8), (1, 3, 12, 7)):
            assert_near(fused(images(*shape)), net(images(*shape)))


@pytest.mark.parametrize("impl", IMPLS)
def test_function(pynative, impl):
    net = randomised(Net([branch(), branch(kernel=7)]))
    x = images(2, 3, 8, 10)
    assert_near(maam(x, *operands(net), eps=(1e-5, 1e-5, 1e-5), impl=impl), net(x))
    assert_near(maam_ops.reference.maam(x, *operands(net)), net(x))


@pytest.mark.parametrize("impl", IMPLS)
def test_function_in_training(pynative, impl):
    """F and the new statistics are those of a net of `nn.BatchNorm2d`; the operands stay as they are."""
    net = randomised(Net([branch(), branch(kernel=7)]))
    x = images(2, 3, 8, 10)
    before = [p.asnumpy() for p in net.get_parameters()]
    f, statistics = maam(x, *operands(net), training=True, momentum=0.9, impl=impl)
    for parameter, values in zip(net.get_parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.asnumpy(), values)
    assert_near(f, net.set_train()(x))
    moved = [v for _, norm in _conv_norms(net) for v in (norm.moving_mean, norm.moving_variance)]
    for got, expected in zip(statistics, moved, strict=True):
        assert_near(got, expected)


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_half_images_train_in_float32(pynative, dtype):
    net, twin = (randomised(Net([branch(), branch()])).set_train() for _ in range(2))
    x = images(2, 3, 8, 8).astype(dtype)
    f = net.fused("native").set_train()(x)
    assert f.dtype == dtype
    assert_near(f, twin(x.astype(ms.float32)).astype(dtype), 1e-2 if dtype == ms.bfloat16 else 2e-3)


class Other(nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = branch()

    def construct(self, x):
        return self.inner(x) * 2


@pytest.mark.parametrize(
    "odd, reason",
    [
        (lambda: Other(), "is a Other, not a SequentialCell"),
        (lambda: nn.SequentialCell(*list(branch())[:3], nn.AvgPool2d(2, 2)), "of Conv2d, BatchNorm2d, ReLU, AvgPool2d"),
        (lambda: branch(stride=2, pool=nn.MaxPool2d(1, 1)), r"has stride \(2, 2\), not 1"),
        (lambda: branch(dilation=2), r"has dilation \(2, 2\)"),
        (lambda: branch(kernel=(1, 3)), r"has kernel_size \(1, 3\)"),
        (lambda: branch(has_bias=True), "has has_bias True"),
        (lambda: branch(pool=nn.MaxPool2d(3, 2, pad_mode="same")), r"has pooling \(3, 2\), not 2x2"),
        (lambda: branch(pool=nn.MaxPool2d(2, 2, pad_mode="same")), "pad_mode of the pooling"),
        (lambda: branch(pad_mode="pad", padding=(0, 2, 0, 2)), "what keeps the size"),
    ],
)
def test_other_branches_are_called_as_they_are(pynative, odd, reason):
    net = randomised(Net([branch(), odd()]))
    fused, x = net.fused(), images(2, 3, 8, 8)
    assert fused.impl == "composition"
    assert_near(fused(x), net(x))
    explanation = maam_ops.explain(fused, x)
    assert "branch 1" in str(explanation)
    assert {name.split("/")[0] for name in explanation.kernels} == {"aggregate_reduce_inference"}
    with pytest.raises(RuntimeError, match=f"impl=native: not available: branch 1 .*{reason}"):
        net.fused("native")


def test_padding_that_enlarges_a_1x1_convolution_is_not_lost(pynative):
    net = randomised(Net([branch(kernel=1, pad_mode="pad", padding=1) for _ in range(2)]))
    fused, x = net.fused(), images(2, 3, 8, 8)
    assert fused.impl == "composition" and net(x).shape[2:] == (5, 5)
    assert_near(fused(x), net(x))


def test_compare_covers_the_cell_and_the_operator(pynative):
    net = randomised(Net([branch(), branch()]))
    report = maam_ops.compare(net.fused(), images(2, 3, 8, 8))
    assert report, str(report)
    assert any(name.startswith("maam_inference/") for name in report.kernels)
    assert maam_ops.compare(maam, images(2, 3, 8, 8), *operands(net), grad=False)
    training = maam_ops.compare(net.fused().set_train(), images(2, 3, 8, 8))
    assert training, str(training)
    assert {"maam_training", "maam_backward"} <= names(training.kernels)


class TestErrors:
    def test_number_of_branches(self, pynative):
        net = Net([branch(), branch()])
        with pytest.raises(ValueError, match="branches: got 3, expected 2"):
            maam_ops.FusedMAAM.from_cells([branch()] * 3, net.attention, net.conv, net.bn)

    def test_channels_of_the_images(self, mode):
        with pytest.raises(ValueError, match=r"branch 0: weight: got shape \(4, 3, 3, 3\), expected"):
            Net([branch(), branch()]).fused()(images(1, 2, 8, 8)).asnumpy()

    def test_double_precision(self, pynative):
        with pytest.raises(TypeError, match="x: got dtype Float64, expected float32, float16 or bfloat16"):
            maam(images(1, 3, 8, 8).astype(ms.float64), *operands(Net([branch(), branch()])))

    def test_eps(self, pynative):
        with pytest.raises(ValueError, match="eps: got 2 values, expected one, or 3"):
            maam(images(1, 3, 8, 8), *operands(Net([branch(), branch()])), eps=(1e-5, 1e-5))


class Classified(nn.Cell):
    """The module and two dense layers, all fused: what mixed precision meets in a classifier."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.hidden = maam_ops.FusedDense(6 * 16, 7, relu=True, impl="native")
        self.output = maam_ops.FusedDense(7, 3, impl="native")

    def construct(self, x):
        return self.output(self.hidden(self.module(x)))


@pytest.mark.parametrize("level", ["O2", "O3"])
@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_mixed_precision(mode, level, dtype):
    """Half or single images: evaluation in the kernels alone, and gradients near those of float32."""
    module = randomised(Net([branch(), branch()]))
    net = Classified(module.fused("native"))
    x, parameters = images(4, 3, 8, 8), net.trainable_params()
    net.set_train()
    step = ms.value_and_grad(SumOfProducts(net, images(4, 3, seed=1)).set_train(), None, parameters)
    _, wide = step(x)
    mixed = ms.amp.auto_mixed_precision(net, level, dtype)
    step = ms.value_and_grad(SumOfProducts(mixed, images(4, 3, seed=1)).set_train(), None, parameters)
    results = []
    ran = names(kernels_run(lambda: results.extend(step(x)[1]) or results))
    assert ran >= {"maam_training", "maam_backward", "dense_forward", "dense_parameter_gradients"}
    for got, expected in zip(results, wide, strict=True):
        assert got.dtype == expected.dtype
        assert_near(got, expected, 2e-2 if dtype == ms.bfloat16 else 3e-3)
    mixed.set_train(False)
    results = []
    ran = names(kernels_run(lambda: results.append(mixed(x.astype(dtype))) or results[0]))
    assert ran == {"maam_inference", "dense_forward"}
    assert np.isfinite(results[0].astype(ms.float32).asnumpy()).all()
