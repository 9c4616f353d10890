"""What holds on every implementation of the convolutional operators and Cells: types, empty batches, refusals."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import maam_ops
from maam_ops import functional

from .cells import IMPLS, Net, assert_near, branch, images, randomised
from .cells import deep_branch as deep

CELLS = {
    "conv_block": lambda impl: maam_ops.FusedConvBlock(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), impl=impl),
    "conv_block, pool": lambda impl: maam_ops.FusedConvBlock(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2, 2), impl
    ),
    "agent_block": lambda impl: maam_ops.FusedAgentBlock(deep(), impl),
    "mix": lambda impl: maam_ops.FusedMix([branch(), branch(kernel=5)], impl=impl),
    "maam": lambda impl: Net([branch(), branch(kernel=5)]).fused(impl),
    "maam_deep": lambda impl: Net([deep(), deep()]).fused(impl),
}
cells = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)


def vectors(channels):
    return [Tensor(np.full(channels, value, np.float32)) for value in (1.5, 0.1, 0.2, 0.7)]


def layer(outputs, inputs, kernel, seed=0):
    return [images(outputs, inputs, kernel, kernel, seed=seed), *vectors(outputs)]


def call_of(op, impl, training=False, broken=lambda tensors: tensors, **constants):
    """A call of the operator with its last group of tensors ``broken``; images are its argument."""
    alpha, function = Tensor([0.1, 0.2]), getattr(functional, op)
    options = {"impl": impl, **constants}
    if op not in ("agent_block", "maam_deep"):
        options["training"] = training
    if op in ("conv_block", "reduce"):
        operands = broken(layer(4, 3, 3 if op == "conv_block" else 1))
        return lambda x: function(x, *operands, **options)
    if op == "aggregate_reduce":
        operands = broken(layer(4, 3, 1))
        return lambda x: function(alpha, [x, x], *operands, **options)
    if op == "agent_block":
        first, second = layer(5, 3, 3), broken(layer(4, 5, 3))
        return lambda x: function(x, first, second, **options)
    if op == "maam_mix":
        branches = [layer(4, 3, 3), broken(layer(4, 3, 5))]
        return lambda x: function(x, alpha, branches, **options)
    branches = [layer(4, 3, 3)] * 2 if op == "maam" else [layer(5, 3, 3) + layer(4, 5, 3)] * 2
    last = broken(layer(6, 4, 1))
    return lambda x: function(x, alpha, branches, *last, **options)


OPERATORS = ("reduce", "aggregate_reduce", "conv_block", "agent_block", "maam_mix", "maam", "maam_deep")
operators = pytest.mark.parametrize("op", OPERATORS)
implementations = pytest.mark.parametrize("impl", IMPLS)


@cells
@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_half_images_in_every_implementation(pynative, make, dtype, training):
    native, reference = (randomised(make(impl)).set_train(training) for impl in IMPLS)
    x = images(2, 3, 8, 8).astype(dtype)
    got, expected = native(x), reference(x)
    assert got.dtype == expected.dtype == dtype
    assert_near(got, expected, 3e-2 if dtype == ms.bfloat16 else 4e-3)


def test_half_images_layer_by_layer_in_a_graph(graph):
    for make in CELLS.values():
        cell = randomised(make("reference")).set_train()
        assert cell(images(2, 3, 8, 8).astype(ms.float16)).dtype == ms.float16


@cells
@implementations
def test_double_precision_is_refused(pynative, make, impl):
    for training in (True, False):
        with pytest.raises(TypeError, match=r"maam_ops\.Fused\w+: x: got dtype Float64, expected float32"):
            make(impl).set_train(training)(images(2, 3, 8, 8).astype(ms.float64))


@cells
@implementations
def test_empty_batch_of_a_cell(pynative, make, impl):
    cell = randomised(make(impl)).set_train(False)
    expected = cell(images(1, 3, 9, 8)).shape[1:]
    x = images(0, 3, 9, 8)
    for dtype in (ms.float32, ms.float16):
        assert cell(x.astype(dtype)).shape == (0, *expected)
    before = [parameter.asnumpy() for parameter in cell.get_parameters()]
    with pytest.raises(ValueError, match=r"maam_ops\.Fused\w+: x: got shape \(0, 3, 9, 8\), 0 element\(s\) per"):
        cell.set_train()(x)
    for parameter, old in zip(cell.get_parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.asnumpy(), old)


@pytest.mark.parametrize("op", ["conv_block", "maam_mix", "maam", "maam_deep"])
@implementations
def test_empty_batch(mode, op, impl):
    assert call_of(op, impl)(images(0, 3, 8, 8)).shape[0] == 0


@operators
@implementations
def test_empty_batch_in_training(pynative, op, impl):
    if op != "maam_deep":
        with pytest.raises(ValueError, match=r"got shape \(0, 3, 8, 8\), 0 element\(s\) per channel"):
            call_of(op, impl, training=True)(images(0, 3, 8, 8))


@implementations
def test_a_single_pixel_moves_no_statistics(pynative, impl):
    cell = CELLS["conv_block"](impl).set_train()
    with pytest.raises(ValueError, match=r"1 element\(s\) per channel, expected at least 2 in training"):
        cell(images(1, 3, 1, 1))
    np.testing.assert_array_equal(cell.bn.moving_variance.asnumpy(), 1)


@operators
@implementations
@pytest.mark.parametrize("name", ["gamma", "beta", "moving_mean", "moving_variance"])
def test_shapes_of_vectors(pynative, op, impl, name):
    position = ["weight", "gamma", "beta", "moving_mean", "moving_variance"].index(name)

    def broken(tensors):
        return [Tensor([1.0]) if i == position else tensor for i, tensor in enumerate(tensors)]

    with pytest.raises(ValueError, match=rf"maam_ops\.{op}: .*{name}: got shape \(1,\), expected \([46],\)"):
        call_of(op, impl, broken=broken)(images(2, 3, 8, 8))


@pytest.mark.parametrize("op", ["agent_block", "maam_mix"])
def test_number_of_tensors(pynative, op):
    with pytest.raises(ValueError, match="got 4 tensors, expected 5: weight, gamma, beta, moving_mean"):
        call_of(op, "auto", broken=lambda tensors: tensors[:4])(images(2, 3, 8, 8))


@operators
@implementations
def test_range_of_eps_and_momentum(pynative, op, impl):
    x = images(2, 3, 8, 8)
    for eps in (-5.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match=rf"maam_ops\.{op}: eps: got \S+, expected above 0, up to 1"):
            call_of(op, impl, eps=eps)(x)
    if op != "maam_deep":
        with pytest.raises(ValueError, match=rf"maam_ops\.{op}: momentum: got 2.0, expected 0 to 1"):
            call_of(op, impl, training=True, momentum=2.0)(x)
    with pytest.raises(TypeError, match=rf"maam_ops\.{op}: eps: got None, expected a number"):
        call_of(op, impl, eps=None)(x)


@operators
@implementations
def test_eps_from_numpy(pynative, op, impl):
    x = images(2, 3, 8, 8)
    got, expected = (call_of(op, impl, eps=eps)(x) for eps in (np.float32(0.5), 0.5))
    for left, right in zip(got, expected, strict=True):  # of a result, its images
        assert_near(left, right)


@pytest.mark.parametrize(
    "make",
    [
        lambda bn: maam_ops.FusedReduce.from_cells(nn.Conv2d(3, 4, 1), bn),
        lambda bn: maam_ops.FusedConvBlock(nn.Conv2d(3, 4, 3), bn),
        lambda bn: maam_ops.FusedMix([nn.SequentialCell(nn.Conv2d(3, 4, 3), bn, nn.ReLU(), nn.MaxPool2d(2, 2))]),
        lambda bn: maam_ops.FusedAgentBlock(nn.SequentialCell(*list(deep())[:4], bn, *list(deep())[5:])),
        lambda bn: maam_ops.FusedMAAM(3, 4, 4, eps=bn.eps),
    ],
)
def test_cells_refuse_an_eps_that_no_normalisation_has(pynative, make):
    with pytest.raises(ValueError, match=r"maam_ops\.Fused\w+: eps: got -5.0, expected above 0, up to 1"):
        make(nn.BatchNorm2d(4, eps=-5.0))


@implementations
def test_residual_of_another_shape(pynative, impl):
    with pytest.raises(ValueError, match="residual: got one beside pool=True"):
        CELLS["conv_block, pool"](impl)(images(2, 3, 4, 4), images(2, 4, 2, 2))
    with pytest.raises(ValueError, match=r"residual: got shape \(1, 4, 1, 1\), expected \(2, 4, 4, 4\)"):
        CELLS["conv_block"](impl)(images(2, 3, 4, 4), images(1, 4, 1, 1))


class TestUnknownShapes:
    @cells
    @pytest.mark.parametrize("training", [True, False])
    def test_no_extent_is_known(self, graph, make, training):
        net, plain = (randomised(make("native")).set_train(training) for _ in range(2))
        net.set_inputs(Tensor(shape=[None] * 4, dtype=ms.float32))
        x = images(2, 3, 8, 8)
        assert_near(net(x), plain(x))

    @pytest.mark.parametrize("training", [True, False])
    def test_of_a_reduction_by_its_definition(self, graph, training):
        net = maam_ops.FusedReduce(3, 4, impl="reference").set_train(training)
        net.set_inputs(Tensor(shape=[None] * 4, dtype=ms.float32))
        assert net(images(2, 3, 8, 8)).shape == (2, 4, 8, 8)

    @pytest.mark.parametrize(
        "make", [*CELLS.values(), lambda impl: maam_ops.FusedReduce(3, 4, impl=impl)], ids=[*CELLS, "reduce"]
    )
    def test_an_unknown_rank_is_refused(self, graph, make):
        net = make("native")
        net.set_inputs(Tensor(shape=None, dtype=ms.float32))
        with pytest.raises(ValueError, match=r"maam_ops\.Fused\w+: [xg]: got a tensor of unknown rank"):
            net(images(2, 3, 8, 8))
