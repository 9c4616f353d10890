"""reduce and aggregate_reduce in MindSpore: both modes, both implementations, against oracles and nn.BatchNorm2d."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import aggregate_reduce, reduce

from . import oracle
from .cells import check_mixed_precision, images

IMPLS = ["native", "reference"]
TOLERANCE = {ms.float32: 2e-5, ms.float16: 4e-3, ms.bfloat16: 3e-2, ms.float64: 1e-11}
SHAPE, OUT = (3, 5, 3, 7), 6


def as_double(tensor):
    return (tensor.float() if tensor.dtype in (ms.bfloat16, ms.float16) else tensor).asnumpy().astype(np.float64)


def operands(dtype=ms.float32, shape=SHAPE, out=OUT, count=1, seed=0):
    """Branches, weight, gamma, beta, moving_mean, moving_variance."""
    rng = np.random.default_rng(seed)
    wide = ms.float64 if dtype == ms.float64 else ms.float32
    branches = [Tensor(rng.standard_normal(shape)).astype(dtype) for _ in range(count)]
    weight = Tensor(rng.standard_normal((out, shape[1], 1, 1))).astype(wide)
    gamma = Tensor(rng.uniform(0.5, 1.5, out) * rng.choice([-1, 1], out)).astype(wide)
    beta, mean = (Tensor(rng.standard_normal(out)).astype(wide) for _ in range(2))
    variance = Tensor(rng.uniform(0.5, 2.0, out)).astype(wide)
    return branches, [weight, gamma, beta, mean, variance]


def close(got, expected, dtype):
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(as_double(got), expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_forward_matches_the_oracle(pynative, impl, dtype):
    (g,), rest = operands(dtype)
    doubles = [as_double(tensor) for tensor in (g, *rest)]
    ran = kernels_run(
        lambda: close(reduce(g, *rest, training=False, impl=impl), oracle.reduce_inference(*doubles), dtype)
    )
    assert {name.split("/")[0] for name in ran} == ({"reduce_inference"} if impl == "native" else set())
    f, mean, variance = reduce(g, *rest, training=True, momentum=0.7, impl=impl)
    expected = oracle.reduce_training(*doubles, momentum=0.7)
    close(f, expected[0], dtype)
    # The statistics of half data are those of the rounded Z, as they are between separate layers.
    close(mean, expected[1], dtype)
    close(variance, expected[2], dtype)
    assert f.dtype == dtype and mean.dtype == rest[3].dtype and f.shape == (3, OUT, 3, 7)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_by_central_differences(pynative, impl, training):
    """Every differentiable input of aggregate_reduce, in float64, for both forms of batch normalisation."""
    branches, rest = operands(ms.float64, (2, 3, 2, 2), 4, count=3)
    alpha = np.array([0.2, -0.4, 0.9])
    incoming = np.random.default_rng(5).standard_normal((2, 4, 2, 2))
    arrays = [alpha, *(b.asnumpy().copy() for b in branches), *(t.asnumpy().copy() for t in rest[:3])]
    statistics = [t.asnumpy() for t in rest[3:]]

    def loss(alpha, a, b, c, weight, gamma, beta):
        result = aggregate_reduce(alpha, [a, b, c], weight, gamma, beta, *rest[3:], training=training, impl=impl)
        return ((result[0] if training else result) * Tensor(incoming)).sum()

    def oracle_loss():
        g = oracle.aggregate(arrays[0], arrays[1:4])
        f = (oracle.reduce_training if training else oracle.reduce_inference)(g, *arrays[4:], *statistics)
        return float(((f[0] if training else f) * incoming).sum())

    got = ms.grad(loss, grad_position=tuple(range(7)))(*map(Tensor, arrays))
    for array, gradient in zip(arrays, got, strict=True):
        expected = oracle.numeric_gradient(lambda _: oracle_loss(), array)
        np.testing.assert_allclose(gradient.asnumpy(), expected, rtol=1e-5, atol=1e-7)


class Plain(nn.Cell):
    """The layers as people write them."""

    def __init__(self, channels, out):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out, momentum=0.8), nn.ReLU()

    def construct(self, x):
        return self.relu(self.bn(self.conv(x)))


def train_step(net, x, incoming):
    def loss(images):
        return (net(images) * incoming).sum()

    return ms.value_and_grad(loss, 0, net.trainable_params())(x)


@pytest.mark.parametrize("impl", IMPLS)
def test_cell_is_batchnorm2d_to_the_last_statistic(mode, impl):
    """Values, gradients and running statistics of several training steps, then evaluation."""
    (x,), _ = operands()
    incoming = Tensor(np.random.default_rng(1).standard_normal((3, OUT, 3, 7)).astype(np.float32))
    plain, twin = Plain(5, OUT), Plain(5, OUT)
    ms.load_param_into_net(twin, {p.name: Parameter(p.asnumpy(), name=p.name) for p in plain.get_parameters()})
    fused = maam_ops.FusedReduce.from_cells(twin.conv, twin.bn, impl=impl)
    assert [p.name for p in fused.get_parameters()] == [p.name for p in plain.get_parameters()]
    for step in range(3):
        plain.set_train()
        fused.set_train()
        scaled = x * (step + 1.0) + step
        (value, gradients), (fused_value, fused_gradients) = (
            train_step(net, scaled, incoming) for net in (plain, fused)
        )
        # The terms of the sum may cancel.
        tolerance = 1e-7 * float(np.abs(incoming.asnumpy()).sum())
        np.testing.assert_allclose(fused_value.asnumpy(), value.asnumpy(), rtol=1e-4, atol=tolerance)
        by_name = {p.name: g for p, g in zip(fused.trainable_params(), fused_gradients[1], strict=True)}
        np.testing.assert_allclose(fused_gradients[0].asnumpy(), gradients[0].asnumpy(), rtol=1e-3, atol=1e-4)
        for parameter, gradient in zip(plain.trainable_params(), gradients[1], strict=True):
            np.testing.assert_allclose(
                by_name[parameter.name].asnumpy(), gradient.asnumpy(), rtol=1e-3, atol=2e-4, err_msg=parameter.name
            )
        for theirs, ours in (
            (plain.bn.moving_mean, fused.moving_mean),
            (plain.bn.moving_variance, fused.moving_variance),
        ):
            np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), rtol=1e-5, atol=1e-6)
    plain.set_train(False)
    fused.set_train(False)
    np.testing.assert_allclose(fused(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_fused_pair_equals_the_two_operators(mode, training):
    branches, _ = operands(count=3)
    both = maam_ops.FusedAggregateReduce(3, 5, OUT, init=[0.1, 0.2, -0.5], impl="native").set_train(training)
    mix = maam_ops.FusedAgentAggregate.from_parameter(both.alpha, impl="native")
    single = maam_ops.FusedReduce(5, OUT, impl="native").set_train(training)
    for name in ("weight", "gamma", "beta"):
        getattr(single, name).set_data(getattr(both, name))
    ran = kernels_run(
        lambda: np.testing.assert_allclose(
            both(branches).asnumpy(), single(mix(*branches)).asnumpy(), rtol=1e-4, atol=1e-5
        )
    )
    kind = "training" if training else "inference"
    assert {name.split("/")[0] for name in ran} == {f"aggregate_reduce_{kind}", f"reduce_{kind}", "aggregate_forward"}
    np.testing.assert_allclose(single.moving_mean.asnumpy(), both.moving_mean.asnumpy(), rtol=1e-5, atol=1e-6)


def test_dynamic_batch_in_graph_mode(graph):
    cell = maam_ops.FusedAggregateReduce(2, 4, 3, impl="native").set_train(False)
    cell.set_inputs(*[Tensor(shape=[None, 4, None, None], dtype=ms.float32)] * 2)
    for shape in ((2, 4, 3, 3), (5, 4, 2, 6)):
        branches, _ = operands(shape=shape, count=2)
        g = sum(as_double(b) for b in branches) / 2
        parameters = [
            as_double(p) for p in (cell.weight, cell.gamma, cell.beta, cell.moving_mean, cell.moving_variance)
        ]
        close(cell(*branches), oracle.reduce_inference(g, *parameters), ms.float32)


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_automatic_mixed_precision(mode, level):
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1)
            self.head = maam_ops.FusedAggregateReduce(2, 4, 6, impl="native")

        def construct(self, x):
            y = self.stem(x)
            return self.head(y, -y)

    net = Net().set_train()
    x, incoming = images(2, 3, 4, 4), images(2, 6, 4, 4, seed=1)

    check_mixed_precision(net, level, x, incoming, {"aggregate_reduce_training", "aggregate_reduce_backward"})
    statistics = [p for p in net.get_parameters() if "moving" in p.name]
    assert statistics and all(p.dtype == ms.float32 for p in statistics)


def test_empty_batch(pynative):
    (g,), rest = operands(shape=(0, 5, 3, 3))
    assert reduce(g, *rest, training=False, impl="native").shape == (0, OUT, 3, 3)


class TestErrors:
    @pytest.mark.parametrize("impl", IMPLS)
    def test_one_element_per_channel(self, pynative, impl):
        (g,), rest = operands(shape=(1, 5, 1, 1))
        with pytest.raises(ValueError, match=r"1 element\(s\) per channel, expected at least 2 in training"):
            reduce(g, *rest, training=True, impl=impl)
        assert np.isfinite(reduce(g, *rest, training=False, impl=impl).asnumpy()).all()

    def test_weight_shape(self, mode):
        (g,), _ = operands()
        cell = maam_ops.FusedReduce(4, OUT)
        with pytest.raises(ValueError, match=r"weight: got shape \(6, 4, 1, 1\), expected \(O, 5, 1, 1\)"):
            cell(g).asnumpy()

    def test_gamma_shape(self, pynative):
        (g,), rest = operands()
        rest[1] = Tensor(np.ones(OUT + 1, np.float32))
        with pytest.raises(ValueError, match=r"gamma: got shape \(7,\), expected \(6,\)"):
            reduce(g, *rest, training=False)

    def test_rank(self, pynative):
        (g,), rest = operands()
        with pytest.raises(ValueError, match=r"g: got shape \(3, 5, 21\), expected \(B, C, H, W\)"):
            reduce(g.reshape(3, 5, 21), *rest, training=False)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"kernel_size": 3}, r"kernel_size \(3, 3\), expected \(1, 1\)"),
            ({"kernel_size": 1, "stride": 2}, r"stride \(2, 2\), expected \(1, 1\)"),
            ({"kernel_size": 1, "has_bias": True}, "has_bias True, expected False"),
        ],
    )
    def test_convolutions_it_does_not_compute(self, options, message):
        with pytest.raises(ValueError, match=message):
            maam_ops.FusedReduce.from_cells(nn.Conv2d(4, 4, **options), nn.BatchNorm2d(4))

    def test_normalisations_it_does_not_compute(self):
        with pytest.raises(ValueError, match="use_batch_statistics=False, expected None"):
            maam_ops.FusedReduce.from_cells(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, use_batch_statistics=False))
        with pytest.raises(ValueError, match="got 5 features, expected 4"):
            maam_ops.FusedReduce.from_cells(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(5))
