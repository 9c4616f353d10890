"""quantize: how far bytes are from float32, what they do not depend on, and what is refused."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import maam_ops
from maam_ops._calibrate import Histogram, Layer
from maam_ops.quantize import RULES, _whole

SIZE, CLASSES = 10, 7


class Net(nn.Cell):
    """A small classifier; parameters away from their initial values."""

    def __init__(self, kernels=(3, 5), widths=(20,), outputs=6, seed=0):
        super().__init__()
        self.branches = nn.CellList([self._branch(kernel, widths) for kernel in kernels])
        self.alpha = Parameter(ops.ones(len(kernels)), name="alpha")
        self.conv, self.bn = nn.Conv2d(widths[-1], outputs, 1), nn.BatchNorm2d(outputs)
        self.layers = nn.CellList([nn.Dense(outputs * (SIZE // 2) ** 2, 30), nn.Dense(30, CLASSES)])
        rng = np.random.default_rng(seed)
        for parameter in self.get_parameters():
            shape = parameter.shape
            if parameter.name.endswith(("gamma", "variance")):
                values = rng.uniform(0.5, 1.5, shape)
            else:
                values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
            parameter.set_data(Tensor(values.astype(np.float32)))
        self.set_train(False)

    @staticmethod
    def _branch(kernel, widths):
        cells, inputs = [], 3
        for width in widths:
            cells += [nn.Conv2d(inputs, width, kernel), nn.BatchNorm2d(width), nn.ReLU()]
            inputs, kernel = width, 3
        return nn.SequentialCell(*cells, nn.MaxPool2d(2, 2))

    def construct(self, x):
        weights = ops.softmax(self.alpha, 0)
        g = 0.0
        for i, branch in enumerate(self.branches):
            g = g + weights[i] * branch(x)
        y = ops.relu(self.bn(self.conv(g))).reshape(x.shape[0], -1)
        return self.layers[1](ops.relu(self.layers[0](y)))

    def quantize(self, images, **keywords):
        return maam_ops.quantize(self.branches, self.alpha, self.conv, self.bn, self.layers, images, **keywords)


def images(count, seed=0, low=0.0):
    return np.random.default_rng(seed).uniform(low, 1, (count, 3, SIZE, SIZE)).astype(np.float32)


NETS = {"one convolution": {}, "two convolutions": {"kernels": (3, 1), "widths": (9, 20)}}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("low", [0.0, -1.5], ids=["from 0", "normalised"])
def test_logits_are_near_those_in_float32(pynative, net, low):
    """A rounding is up to half a step of 127; ten or so of them, independent, add up to a few per cent."""
    float_net = Net(**net)
    quantized = float_net.quantize(images(64, low=low))
    x = images(20, seed=1, low=low)
    expected, got = float_net(Tensor(x)).asnumpy(), quantized(Tensor(x)).asnumpy()
    assert got.dtype == np.float32 and got.shape == (20, CLASSES)
    error = got - expected
    assert np.sqrt(np.mean(error**2)) < 0.02 * expected.std() and np.abs(error).max() < 0.1 * np.abs(expected).max()
    assert np.abs(error).max() > 0
    assert quantized.losses.keys() == set(RULES)
    assert quantized.losses[quantized.rule] == min(quantized.losses.values())


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_native_and_reference_give_the_same_bits(mode, net):
    float_net = Net(**net)
    x = Tensor(images(5, seed=1))
    logits = [
        float_net.quantize(images(16), rule="max", impl=impl)(x).asnumpy().tobytes() for impl in ("native", "reference")
    ]
    assert logits[0] == logits[1]


def test_the_classifier_does_not_follow_the_net_and_a_new_one_does(pynative):
    net = Net()
    x = Tensor(images(4, seed=1))
    quantized = net.quantize(images(16), rule="max")
    before = quantized(x).asnumpy()
    net.layers[1].bias.set_data(net.layers[1].bias + 1)
    np.testing.assert_array_equal(quantized(x).asnumpy(), before)
    np.testing.assert_allclose(net.quantize(images(16), rule="max")(x).asnumpy(), before + 1, atol=1e-3)


def test_fused_layers_and_cells_are_taken_as_they_are(pynative):
    net = Net()
    fused = [maam_ops.FusedDense.from_cell(layer, relu=i == 0) for i, layer in enumerate(net.layers)]
    mix = maam_ops.FusedAgentAggregate.from_parameter(net.alpha)
    other = maam_ops.quantize(net.branches, mix, net.conv, net.bn, fused, images(16), rule="mse")
    x = Tensor(images(4, seed=1))
    np.testing.assert_array_equal(other(x).asnumpy(), net.quantize(images(16), rule="mse")(x).asnumpy())


def test_batches_and_dynamic_shape(mode):
    quantized = Net().quantize(images(16), rule="max")
    quantized.set_inputs(Tensor(shape=[None, 3, SIZE, SIZE], dtype=ms.float32))
    x = images(5, seed=1)
    whole = quantized(Tensor(x)).asnumpy()
    np.testing.assert_array_equal(quantized(Tensor(x[2:3])).asnumpy(), whole[2:3])


def test_explain_and_checkpoint(pynative, tmp_path):
    quantized = Net().quantize(images(16), rule="max")
    x = Tensor(images(2, seed=1))
    explanation = maam_ops.explain(quantized, x)
    assert {choice.op for choice in explanation.choices.values()} == {"maam_int8", "dense_int8"}
    assert any(name.startswith("maam_int8/") for name in explanation.kernels)
    assert not quantized.trainable_params()
    ms.save_checkpoint(quantized, str(tmp_path / "int8.ckpt"))
    other = Net(seed=1).quantize(images(16), rule="max")
    ms.load_checkpoint(str(tmp_path / "int8.ckpt"), other)
    np.testing.assert_array_equal(other(x).asnumpy(), quantized(x).asnumpy())


def test_dead_channels_and_images(pynative):
    """Weights that are all zero, and a channel whose shift alone makes its value."""
    net = Net()
    net.branches[0][0].weight.set_data(ops.zeros_like(net.branches[0][0].weight))
    x = images(8, seed=1)
    got, expected = net.quantize(images(32))(Tensor(x)).asnumpy(), net(Tensor(x)).asnumpy()
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()
    black = net.quantize(np.zeros((4, 3, SIZE, SIZE), np.float32))(Tensor(np.zeros((1, 3, SIZE, SIZE), np.float32)))
    assert np.isfinite(black.asnumpy()).all()


class TestRules:
    def values(self):
        return np.concatenate([np.random.default_rng(0).uniform(0, 1, 100_000), [50.0]])

    def test_limits(self):
        histogram = Histogram()
        for part in np.array_split(self.values(), 7):
            histogram.add(part.astype(np.float32))
        steps = {rule: histogram.scale(rule) * 127 for rule in RULES}
        assert steps["max"] == 50 and 1 <= steps["percentile"] < 1.1 and steps["mse"] < 50

    def test_nothing_seen_above_zero(self):
        histogram = Histogram()
        histogram.add(np.zeros(5, np.float32))
        assert [histogram.scale(rule) for rule in RULES] == [1.0] * 3

    def test_whole_numbers_use_their_range_and_biases_stay_in_theirs(self):
        layers = [Layer(np.array([[0.5, -2.0], [0.0, 0.0], [1e-9, 0]]), np.array([3.0, 0.0, 1e3]))]
        ((weight, bias),), unit = _whole(layers, [0.1])
        assert weight[0].tolist() == [32, -127] and bias[0] == round(3 / (0.2 / 127))
        assert unit[1] == 1 and np.abs(bias).max() <= 2**27


class TestErrors:
    def test_branches(self, pynative):
        net = Net()
        with pytest.raises(ValueError, match=r"branch 1 is a Dense.*run this classifier in float32"):
            maam_ops.quantize([net.branches[0], nn.Dense(2, 2)], net.alpha, net.conv, net.bn, net.layers, images(4))
        net.branches[1][0] = nn.Conv2d(3, 20, 3, stride=2)
        with pytest.raises(ValueError, match=r"branch 1 has stride \(2, 2\), not 1"):
            net.quantize(images(4))

    def test_too_many_channels_between_the_convolutions(self, pynative):
        with pytest.raises(ValueError, match="branch 0 has 232 channels between its convolutions, more than 231"):
            Net(widths=(232, 4)).quantize(images(4))

    @pytest.mark.parametrize(
        "shape, message",
        [
            ((4, 2, SIZE, SIZE), r"images: got shape \(4, 2, 10, 10\), expected \(B, 3, H, W\)"),
            ((0, 3, SIZE, SIZE), r"images: got shape \(0, 3, 10, 10\)"),
            ((4, 3, 8, 8), r"images: got shape \(4, 3, 8, 8\), whose F has not the 150 elements"),
        ],
    )
    def test_images(self, pynative, shape, message):
        with pytest.raises(ValueError, match=message):
            Net().quantize(np.zeros(shape, np.float32))

    def test_values_and_rule(self, pynative):
        with pytest.raises(ValueError, match="got NaN or infinity, expected finite values"):
            Net().quantize(np.full((1, 3, SIZE, SIZE), np.nan, np.float32))
        with pytest.raises(ValueError, match="rule: got 'median', expected one of best, max, percentile, mse"):
            Net().quantize(images(1), rule="median")

    @pytest.mark.parametrize(
        "layers, error, message",
        [
            (lambda: [nn.Dense(150, 30), maam_ops.FusedDense(30, 7, relu=True)], ValueError,
             "layer 1: got activation ReLU, expected none behind the last"),
            (lambda: [nn.Dense(150, 7, activation="sigmoid")], ValueError,
             "layer 0: got activation Sigmoid, expected none behind the last"),
            (lambda: [nn.Dense(150, 30, activation="tanh"), nn.Dense(30, 7)], ValueError,
             "layer 0: got activation Tanh, expected ReLU or none"),
            (lambda: [nn.Dense(150, 30), nn.Dense(20, 7)], ValueError,
             "layer 1: got 20 inputs, expected the 30 outputs of layer 0"),
            (lambda: [nn.ReLU()], TypeError, "layer 0: got a ReLU, expected nn.Dense or FusedDense"),
            (list, ValueError, "got no dense layer, expected at least one"),
        ],
    )  # fmt: skip
    def test_classifier(self, pynative, layers, error, message):
        net = Net()
        with pytest.raises(error, match=f"maam_ops.quantize: classifier: {message}"):
            maam_ops.quantize(net.branches, net.alpha, net.conv, net.bn, layers(), images(4))

    def test_a_relu_of_the_layer_is_the_one_between(self, pynative):
        net = Net()
        layers = [nn.Dense(150, 30, activation="relu"), net.layers[1]]
        for name in ("weight", "bias"):
            getattr(layers[0], name).set_data(getattr(net.layers[0], name).value().copy())
        quantized = maam_ops.quantize(net.branches, net.alpha, net.conv, net.bn, layers, images(16), rule="max")
        x = Tensor(images(4, seed=1))
        np.testing.assert_array_equal(quantized(x).asnumpy(), net.quantize(images(16), rule="max")(x).asnumpy())

    @pytest.mark.parametrize("count", [0, 1, 9])
    def test_number_of_branches(self, pynative, count):
        net, alpha = Net(), Parameter(Tensor(np.zeros(count or 1, np.float32)), name="alpha")
        expected = "2 to 8" if count else "1, as alpha has elements"
        with pytest.raises(ValueError, match=f"quantize: branches: got {count}, expected {expected}"):
            maam_ops.quantize([net.branches[0]] * count, alpha, net.conv, net.bn, net.layers, images(4))

    def test_what_is_no_alpha(self, pynative):
        net = Net()
        with pytest.raises(TypeError, match="alpha: got a NoneType, expected a Parameter or a FusedAgentAggregate"):
            maam_ops.quantize(net.branches, None, net.conv, net.bn, net.layers, images(4))

    def test_count_of_branches(self, pynative):
        net = Net()
        with pytest.raises(ValueError, match="branches: got 1, expected 2, as alpha has elements"):
            maam_ops.quantize(net.branches[:1], net.alpha, net.conv, net.bn, net.layers, images(4))
