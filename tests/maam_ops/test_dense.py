"""dense and FusedDense in MindSpore: both modes, both implementations, gradients."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import dense

IMPLS = ["native", "reference"]


def tensor(*shape, seed=0):
    return Tensor(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("has_bias, relu", [(True, True), (False, False), (True, False), (False, True)])
def test_forward_and_gradients_are_those_of_the_layer(mode, impl, has_bias, relu):
    layer = nn.Dense(20, 7, has_bias=has_bias)
    fused = maam_ops.FusedDense.from_cell(layer, relu=relu, impl=impl)
    x, incoming = tensor(2, 3, 20), tensor(2, 3, 7)

    def by_layer(data):
        y = layer(data)
        return ((ops.relu(y) if relu else y) * incoming).sum()

    def by_fused(data):
        return (fused(data) * incoming).sum()

    results = []

    def run():
        value, (by_x, by_parameters) = ms.value_and_grad(by_fused, 0, fused.trainable_params())(x)
        results.extend([value, by_x, *by_parameters])
        return value

    ran = kernels_run(run)
    value, (by_x, by_parameters) = ms.value_and_grad(by_layer, 0, layer.trainable_params())(x)
    for got, expected in zip(results, [value, by_x, *by_parameters], strict=True):
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)
    kernels = {"dense_forward", "dense_input_gradient", "dense_parameter_gradients"}
    assert {name.split("/")[0] for name in ran} == (kernels if impl == "native" else set())


class Classifier(nn.Cell):
    """Two layers, with and without ReLU, and the gradients of their parameters."""

    def __init__(self, first, second):
        super().__init__()
        self.layers = nn.SequentialCell(first, second)
        self.gradient = ops.GradOperation(get_by_list=True)
        self.wanted = ms.ParameterTuple(self.layers.trainable_params())

    def construct(self, x):
        return self.gradient(self.layers, self.wanted)(x)


def test_layers_with_and_without_relu_in_one_net_keep_their_own_gradients(mode):
    plain = [nn.Dense(20, 30, activation="relu"), nn.Dense(30, 5)]
    x, results, kernels = tensor(8, 20), [], {}

    def run():
        net = Classifier(*(maam_ops.FusedDense.from_cell(layer, impl="native") for layer in plain))
        results.extend(net(x))
        return results

    kernels = kernels_run(run)
    for got, expected in zip(results, Classifier(*plain)(x), strict=True):
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)
    if mode == "graph":  # which leaves out what nobody reads: the net's output and the gradient of its input
        calls = {name.split("/")[0]: count for name, count in kernels.items()}
        assert calls == {"dense_forward": 1, "dense_input_gradient": 1, "dense_parameter_gradients": 2}


def test_parameters_and_activation_are_taken_over(pynative):
    layer = nn.Dense(4, 3, activation="relu")
    fused = maam_ops.FusedDense.from_cell(layer)
    assert fused.weight is layer.weight and fused.bias is layer.bias and fused.relu
    assert [p.name for p in fused.get_parameters()] == ["weight", "bias"]
    np.testing.assert_allclose(fused(tensor(5, 4)).asnumpy(), layer(tensor(5, 4)).asnumpy(), rtol=1e-5, atol=1e-6)
    layer.weight.set_data(tensor(3, 4, seed=1))
    np.testing.assert_allclose(fused(tensor(5, 4)).asnumpy(), layer(tensor(5, 4)).asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
def test_halves_are_computed_in_float32(pynative, dtype):
    x, weight, bias = tensor(3, 50).astype(dtype), tensor(4, 50), tensor(4)
    y = dense(x, weight, bias, impl="native")
    expected = dense(x.astype(ms.float32), weight, bias, impl="native").astype(dtype)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.float().asnumpy(), expected.float().asnumpy())


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
@pytest.mark.parametrize("weight_dtype", [ms.float32, None], ids=["float32 weight", "half weight"])
def test_gradients_of_halves(mode, dtype, weight_dtype):
    """Rounded once, each in the dtype of what it is the gradient of."""
    x, incoming = tensor(9, 50).astype(dtype), tensor(9, 4)
    weight, bias = tensor(4, 50).astype(weight_dtype or dtype), tensor(4).astype(weight_dtype or dtype)

    def loss(*operands):
        return (dense(*operands, relu=True, impl="native").astype(ms.float32) * incoming).sum()

    halves = ms.grad(loss, (0, 1, 2))(x, weight, bias)
    wide = ms.grad(loss, (0, 1, 2))(*(operand.astype(ms.float32) for operand in (x, weight, bias)))
    for got, expected, operand in zip(halves, wide, (x, weight, bias), strict=True):
        assert got.dtype == operand.dtype
        bound = 2e-2 if dtype == ms.bfloat16 else 3e-3
        got, expected = got.astype(ms.float32).asnumpy(), expected.asnumpy()
        np.testing.assert_allclose(got, expected, rtol=bound, atol=bound * np.abs(expected).max())


@pytest.mark.parametrize("impl", IMPLS)
def test_rows_of_several_dimensions_are_flattened(mode, impl):
    fused = maam_ops.FusedDense(24, 5, impl=impl)
    x, incoming = tensor(3, 2, 3, 4), tensor(3, 5)

    def loss(data):
        return (fused(data) * incoming).sum()

    def flat(data):
        return loss(data.reshape((3, -1)))

    assert fused(x).shape == (3, 5)
    got, expected = (ms.value_and_grad(f, 0, fused.trainable_params())(x) for f in (loss, flat))
    for a, b in zip((got[0], got[1][0], *got[1][1]), (expected[0], expected[1][0], *expected[1][1]), strict=True):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def test_dynamic_batch_in_graph_mode(graph):
    fused = maam_ops.FusedDense(6, 3, impl="native")
    fused.set_inputs(Tensor(shape=[None, 6], dtype=ms.float32))
    for batch in (1, 9):
        expected = tensor(batch, 6).asnumpy() @ fused.weight.asnumpy().T + fused.bias.asnumpy()
        np.testing.assert_allclose(fused(tensor(batch, 6)).asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_compare(pynative):
    assert maam_ops.compare(dense, tensor(3, 8), tensor(4, 8), tensor(4), relu=True)
    assert maam_ops.compare(maam_ops.FusedDense(5, 2), tensor(3, 5))


class TestErrors:
    def test_shapes(self, mode):
        with pytest.raises(ValueError, match=r"weight: got shape \(3, 6\) for x \(2, 5\), expected \(O, K\)"):
            maam_ops.FusedDense(6, 3)(tensor(2, 5)).asnumpy()

    def test_bias(self, pynative):
        with pytest.raises(ValueError, match=r"bias: got shape \(2,\), expected \(3,\)"):
            dense(tensor(2, 5), tensor(3, 5), tensor(2))

    def test_dtype(self, pynative):
        with pytest.raises(TypeError, match="x: got dtype Int32"):
            dense(tensor(2, 5).astype(ms.int32), tensor(3, 5))

    def test_activation(self, pynative):
        with pytest.raises(ValueError, match="got activation Sigmoid, expected ReLU or none"):
            maam_ops.FusedDense.from_cell(nn.Dense(2, 2, activation="sigmoid"))
