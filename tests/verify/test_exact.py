"""Exactness: where nothing needs rounding, every implementation gives the same bits as exact arithmetic.

Values are small whole numbers, the softmax gives {1, 0, ...} or {1/2, 1/2, 0, ...}, and variances are powers of four,
so that every intermediate result is exact in whatever order it is computed. Results are compared with the exact number
rounded once to their type; zeros of either sign are equal. Missing are the operators that convolve by Winograd's
transforms: their points are roots of two and of a half, so that they round whatever the values are.
"""

import numpy as np
import pytest

from tests.kernels import needs_this_process
from tests.maam_ops import native
from tests.maam_ops.adam_case import RULES, AdamCase
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.cross_entropy_case import CrossEntropyCase
from tests.maam_ops.dense_case import DenseCase, DenseGradientCase
from tests.maam_ops.layers import conv_same, max_pool
from tests.maam_ops.maam_case import MaamCase
from tests.maam_ops.maam_mix_case import MaamMixCase
from tests.maam_ops.maam_training_case import MaamTrainingCase
from tests.maam_ops.native import Array
from tests.maam_ops.reduce_case import COLUMN, ReduceCase

from .operators import EVERY

# Farther apart than exp() reaches down, in float32 and in float64.
FAR = {"float32": 200, "float64": 800}


def variants(name):
    chosen = [(dtype, isa) for operator, dtype, isa in EVERY if operator.name == name]
    return pytest.mark.parametrize("dtype, isa", chosen, ids=["-".join(pair) for pair in chosen])


def exact_alpha(wide, branches, equal):
    """alpha whose softmax gives the first ``equal`` branches the same weight, a power of two, and the others none."""
    alpha = np.where(np.arange(branches) < equal, 5, 5 - FAR[wide])
    weights = np.where(np.arange(branches) < equal, 1 / equal, 0)
    assert (np.exp((alpha - 5).astype(wide)) == (weights > 0)).all()
    return Array(alpha, wide), weights


def whole(rng, shape, largest=8):
    return rng.integers(-largest, largest + 1, shape).astype(float)


def assert_exact(got, expected, what):
    """``got`` is ``expected`` rounded once."""
    rounded = Array(np.asarray(expected, np.float64), got.dtype)
    assert got.data.shape == rounded.data.shape
    np.testing.assert_array_equal(got.values, rounded.values, err_msg=what)


@variants("aggregate")
@pytest.mark.parametrize("branches, equal", [(2, 1), (3, 1), (3, 2), (5, 4), (8, 8), (8, 2)])
def test_aggregate(dtype, isa, branches, equal):
    with native.capped(isa):
        check_aggregate(dtype, branches, equal)


def check_aggregate(dtype, branches, equal):
    rng = np.random.default_rng([branches, equal])
    case = AggregateCase((3, 777), branches, dtype, offset=1)
    case.alpha, w = exact_alpha(case.alpha.dtype, branches, equal)
    case.a = [Array(8 * whole(rng, (3, 777), 3), dtype) for _ in range(branches)]
    case.dg = Array(8 * whole(rng, (3, 777), 3), dtype)
    g, (dalpha, da) = case.forward(), case.backward()
    a, dg = np.stack([a.values for a in case.a]), case.dg.values
    assert_exact(g, np.tensordot(w, a, 1), "G")
    dots = (a * dg).sum((1, 2))
    assert_exact(dalpha, w * (dots - w @ dots), "d alpha")
    for k in range(branches):
        assert_exact(da[k], w[k] * dg, f"dA {k}")


def exact_reduce(dtype, pixels, branches, *, seed=0):
    """Each output is one input times a power of two, and each input takes two values equally often."""
    rng = np.random.default_rng([pixels, branches, seed])
    inputs, outputs = 5, 7
    case = ReduceCase((2, inputs, pixels), outputs, dtype, branches=branches)
    signs = np.stack([rng.permutation(np.repeat([-1.0, 1.0], pixels)) for _ in range(inputs)])
    g = (signs + whole(rng, (inputs, 1), 2)).reshape(inputs, 2, pixels).transpose(1, 0, 2)
    mix = np.ones(1)
    if branches > 1:
        case.alpha, mix = exact_alpha(case.alpha.dtype, branches, 2)
        others = [whole(rng, g.shape, 3) for _ in range(branches - 2)]
        difference = whole(rng, g.shape, 3)
        case.a = [Array(values, dtype) for values in (g + difference, g - difference, *others)]
    else:
        case.a = [Array(g, dtype)]
    weight = np.zeros((outputs, inputs))
    weight[np.arange(outputs), rng.integers(0, inputs, outputs)] = rng.choice([-2, -1, 1, 2], outputs)
    case.weight = Array(weight, dtype)
    case.gamma = case.vector(rng.choice([-4, -2, 2, 4], outputs))
    case.beta = case.vector(whole(rng, outputs, 3))
    case.moving_mean, case.moving_variance = case.vector(whole(rng, outputs, 3)), case.vector(np.ones(outputs))
    case.df = whole(rng, case.result_shape, 2)
    return case, g, mix


def assert_exact_gradients(case, g, mix, got, dz, dy, xhat, what):
    assert_exact(got["dbeta"], dy.sum((0, 2)), f"{what} d beta")
    assert_exact(got["dgamma"], (dy * xhat).sum((0, 2)), f"{what} d gamma")
    assert_exact(got["dweight"], np.einsum("bop,bcp->oc", dz, g), f"{what} dW")
    dg = np.einsum("oc,bop->bcp", case.weight.values, dz)
    for weight, da in zip(mix, got["da"], strict=True):
        assert_exact(da, weight * dg, f"{what} dA")
    if "dalpha" in got:
        dots = np.array([(dg * a.values).sum() for a in case.a])
        assert_exact(got["dalpha"], mix * (dots - mix @ dots), f"{what} d alpha")


@pytest.mark.parametrize("branches", [1, 3, 8])
@pytest.mark.parametrize("pixels", [1, 37, 64])
@variants("reduce")
def test_reduce_with_moving_statistics(dtype, isa, pixels, branches):
    with native.capped(isa):
        check_reduce_frozen(dtype, pixels, branches)


def check_reduce_frozen(dtype, pixels, branches):
    case, g, mix = exact_reduce(dtype, pixels, branches)
    case.constants = Array([3, 0.5], "float64")  # 1 / sqrt(1 + 3)
    f, got = case.inference(), case.backward()
    xhat = (np.einsum("oc,bcp->bop", case.weight.values, g) - case.moving_mean.values.reshape(COLUMN)) / 2
    gamma, beta = (vector.values.reshape(COLUMN) for vector in (case.gamma, case.beta))
    y = gamma * xhat + beta
    dy = np.where(y > 0, case.df, 0)
    assert_exact(f, np.maximum(y, 0), "F")
    assert_exact_gradients(case, g, mix, got, gamma / 2 * dy, dy, xhat, "frozen")


@pytest.mark.parametrize("branches", [1, 3, 8])
@pytest.mark.parametrize("pixels", [1, 32, 64])
@variants("reduce")
def test_reduce_in_training(dtype, isa, pixels, branches):
    with native.capped(isa):
        check_reduce_training(dtype, pixels, branches)


def check_reduce_training(dtype, pixels, branches):
    case, g, mix = exact_reduce(dtype, pixels, branches)
    case.constants = Array([0, 0.5], "float64")
    trained = case.training()
    got = case.backward(trained)
    z = np.einsum("oc,bcp->bop", case.weight.values, g)
    n = z[:, 0].size
    mean, variance = z.mean((0, 2)), z.var((0, 2))
    assert set(variance.astype(float)) <= {1.0, 4.0}
    rstd = 1 / np.sqrt(variance)
    gamma, beta = (vector.values.reshape(COLUMN) for vector in (case.gamma, case.beta))
    xhat = (z - mean.reshape(COLUMN)) * rstd.reshape(COLUMN)
    y = gamma * xhat + beta
    dy = np.where(y > 0, case.df, 0)
    names = ("F", "Z", "mean", "rstd", "moving_mean", "moving_variance")
    moving = 0.5 * case.moving_mean.values + 0.5 * mean, 0.5 + 0.5 * variance * n / (n - 1)
    for name, array, expected in zip(names, trained, (np.maximum(y, 0), z, mean, rstd, *moving), strict=True):
        assert_exact(array, expected, name)
    means = [(value.sum((0, 2)) / n).reshape(COLUMN) for value in (dy, dy * xhat)]
    dz = gamma * rstd.reshape(COLUMN) * (dy - means[0] - xhat * means[1])
    assert_exact_gradients(case, g, mix, got, dz, dy, xhat, "training")


@variants("dense")
@pytest.mark.parametrize("batch, inputs", [(1, 3), (9, 1111), (65, 100)])
@pytest.mark.parametrize("relu", [True, False])
def test_dense(dtype, isa, batch, inputs, relu):
    rng = np.random.default_rng(inputs)
    case = DenseCase(batch, inputs, 6, dtype, relu=relu, offset=1)
    case.x = Array(whole(rng, case.x.data.shape), dtype)
    case.weight = Array(whole(rng, case.weight.data.shape), dtype)
    case.bias = [Array(whole(rng, 6), dtype)]
    y = case.x.values @ case.weight.values.T + case.bias[0].values
    with native.capped(isa):
        assert_exact(case.run(), np.maximum(y, 0) if relu else y, "y")


def conv_norm(case, rng, x, operands, dtype="float32"):
    """One layer on whole numbers, its scale a power of two."""
    weight, gamma, beta, mean, variance = (operand.data.shape for operand in operands)
    operands[:] = [
        Array(whole(rng, weight, 1), dtype),
        case.array(rng.choice([-2.0, 2.0], gamma)),
        case.array(whole(rng, beta, 2)),
        case.array(whole(rng, mean, 2)),
        case.array(np.ones(variance)),
    ]
    weight, gamma, beta, mean, _ = (operand.values.astype(float) for operand in operands)
    y = (conv_same(x, weight) - mean.reshape(1, -1, 1, 1)) * (gamma / 2).reshape(1, -1, 1, 1)
    return np.maximum(y + beta.reshape(1, -1, 1, 1), 0)


def exact_mixture(case, rng, equal, dtype="float32"):
    """G of a case, whose images and branches are made whole numbers."""
    case.alpha, w = exact_alpha("float32", len(case.kernels), equal)
    case.eps = Array(np.full(case.eps.data.shape, 3), "float64")
    case.x = case.images(whole(rng, case.x.data.shape, 3))
    x = case.x.values.astype(float)
    agents = [max_pool(conv_norm(case, rng, x, branch, dtype)) for branch in case.branches]
    return sum(weight * agent for weight, agent in zip(w, agents, strict=True))


MIXTURES = [((3, 3, 3), 1), ((3, 3, 3), 2), ((1, 5, 3, 7), 4)]


@variants("maam")
@pytest.mark.parametrize("kernels, equal", MIXTURES)
@pytest.mark.parametrize("size", [(8, 8), (9, 35)])
def test_whole_module(dtype, isa, kernels, equal, size):
    rng = np.random.default_rng([equal, *size])
    case = MaamCase((2, 3, *size), kernels=kernels, dtype=dtype, weight_dtype=dtype)
    g = exact_mixture(case, rng, equal, dtype)
    with native.capped(isa):
        if case.in_pairs():
            g = Array(g, "bfloat16").values.astype(float)
        expected = conv_norm(case, rng, g, case.reduce, dtype)
        assert_exact(case.run(), expected, "F")


@variants("maam_mix")
@pytest.mark.parametrize("kernels, equal", [*MIXTURES, ((3,), 1)])
@pytest.mark.parametrize("size", [(8, 8), (9, 35)])
def test_mix_in_evaluation(dtype, isa, kernels, equal, size):
    case = MaamMixCase((2, 3, *size), kernels=kernels)
    g = exact_mixture(case, np.random.default_rng([equal, *size]), equal)
    with native.capped(isa):
        assert_exact(case.results()["G in evaluation"], g, "G")


@variants("dense_gradients")
@pytest.mark.parametrize("batch, inputs", [(1, 3), (9, 1111), (65, 100)])
@pytest.mark.parametrize("relu", [True, False])
def test_dense_gradients(dtype, isa, batch, inputs, relu):
    rng = np.random.default_rng(inputs)
    case = DenseGradientCase(batch, inputs, 50, dtype, relu=relu, offset=1)
    for name in ("x", "weight", "dy"):
        setattr(case, name, Array(whole(rng, getattr(case, name).data.shape), dtype))
    with np.errstate(invalid="ignore"):
        dy = np.where(case.y[0].values > 0, case.dy.values, 0) if relu else case.dy.values
    with native.capped(isa):
        got = case.run()
    for array, expected in zip(got, (dy @ case.weight.values, dy.T @ case.x.values, dy.sum(0)), strict=True):
        assert_exact(array, expected, "gradient")


@variants("cross_entropy")
@pytest.mark.parametrize("equal", [1, 2, 4])
@pytest.mark.parametrize("smoothing", [0, 0.25])
def test_cross_entropy(dtype, isa, equal, smoothing):
    """Rows whose softmax is {1, 0, ...}, {1/2, 1/2, 0, ...} or four quarters; sixteen rows of eight classes."""
    rng = np.random.default_rng(equal)
    case = CrossEntropyCase(16, 8, dtype, smoothing=smoothing, offset=1)
    far = FAR[case.run()[0].dtype]
    order = rng.permuted(np.tile(np.arange(8), (16, 1)), axis=1)
    case.logits = Array(np.where(order < equal, 3, 3 - far), dtype)
    with native.capped(isa):
        loss, gradient = case.run()
    target = (1 - smoothing) * (np.arange(8) == case.labels.data[:, None]) + smoothing / 8
    assert_exact(gradient, (np.where(order < equal, 1 / equal, 0) - target) / 16, "gradient")
    if equal == 1:  # log 1 = 0
        assert_exact(loss, [(target * far * (order > 0)).sum() / 16], "loss")


@variants("adam")
@pytest.mark.parametrize("rule", RULES)
def test_adam(dtype, isa, rule):
    """beta1 = 1/2, beta2 = 3/4, eps = 0: the first step is the learning rate times the sign of the gradient.

    With Nesterov's momentum one and a half times that; decoupled decay adds its share.
    """
    case = AdamCase(1001, 3, rule=rule, offset=1)
    case.constants, case.rate, case.decay = (0.5, 0.75, 0), 2.0**-4, [0.5, 0] if rule == "decoupled" else [0, 0]
    case.gradients = [Array((rng := np.random.default_rng(n)).integers(1, 9, n) * rng.choice([-1, 1], n), dtype)
                      for n in (1001, 3)]  # fmt: skip
    case.weights = [Array(whole(np.random.default_rng(n), n), dtype, 1) for n in (1001, 3)]
    before = [weight.values for weight in case.weights]
    with native.capped(isa):
        case.run()
    for i, gradient in enumerate(case.gradients):
        g = gradient.values
        assert_exact(case.m[i], g / 2, "m")
        assert_exact(case.v[i], g * g / 4, "v")
        times = {"plain": 1, "nesterov": 1.5, "decoupled": 1}[rule]
        step = times * np.sign(g) + (case.decay[i] * before[i] if rule == "decoupled" else 0)
        assert_exact(case.weights[i], before[i] - 2.0**-4 * step, "weight")


@variants("maam_training")
def test_whole_module_in_training(dtype, isa):
    """1x1 kernels that pick a channel, channels of two values equally often, the same in each pooled window."""
    rng = np.random.default_rng(11)
    case = MaamTrainingCase((2, 3, 8, 8), kernels=(1, 1, 1))
    signs = np.stack([rng.permutation(np.repeat([-1.0, 1.0], 16)) for _ in range(3)]).reshape(3, 2, 4, 4)
    x = (signs + whole(rng, (3, 1, 1, 1), 2)).transpose(1, 0, 2, 3)
    case.x = case.array(np.repeat(np.repeat(x, 2, 2), 2, 3))
    case.constants = Array([0, 0, 0, 0, *[0.5] * 4], "float64")  # eps, then the weight of old statistics
    case.eps = Array(np.zeros(4), "float64")
    case.KEEP = 0.5
    case.alpha, _ = exact_alpha("float32", 3, 2)

    def picking(outputs, inputs, which, factors):
        weight = np.zeros((outputs, inputs, 1, 1))
        weight[np.arange(outputs), which] = factors.reshape(-1, 1, 1)
        return case.array(weight)

    picked, factors = rng.integers(0, 3, 8), rng.choice([-1.0, 1.0], 8)
    gamma = rng.choice([-2.0, 2.0], 8)
    for k, branch in enumerate(case.branches):
        branch[0], branch[1] = picking(8, 3, picked, factors), case.array(gamma)
        branch[2], branch[3] = case.array(np.full(8, 2.0 + 2 * k)), case.array(whole(rng, 8, 3))
        branch[4] = case.array(np.ones(8))
    case.reduce = [picking(12, 8, rng.integers(0, 8, 12), rng.choice([-2.0, -1.0, 1.0, 2.0], 12)),
                   *(case.array(values) for values in (rng.choice([-2.0, 2.0], 12), whole(rng, 12, 2),
                                                       whole(rng, 12, 3), np.ones(12)))]  # fmt: skip
    case.df = case.array(whole(rng, case.df.data.shape, 2))
    with native.capped(isa):
        results = case.run().results()
    for name, values in case.expected().items():
        assert_exact(results[name], values, name)


@needs_this_process
@pytest.mark.parametrize("operator", ["aggregate", "reduce", "aggregate_reduce"])
def test_cuda_emulator(operator):
    """The same cases on the CUDA kernels, compiled for the emulator of the tests."""
    emulated = pytest.importorskip("tests.cuda.emulated")
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    device = emulated.Emulated()
    with native.launching(lambda _: device):
        for dtype in native.DTYPES:
            if operator == "aggregate":
                for branches, equal in ((3, 1), (3, 2), (8, 4)):
                    check_aggregate(dtype, branches, equal)
            else:
                check_reduce_frozen(dtype, 37, 1 if operator == "reduce" else 3)
                check_reduce_training(dtype, 32, 1 if operator == "reduce" else 3)


@needs_this_process
def test_ascend_emulator():
    """The Ascend C operators on the emulator, with the same operands."""
    emulated = pytest.importorskip("tests.ascend.emulated")
    from tests.ascend.aggregate_emulated import Aggregate, Operands

    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    aggregate = Aggregate()
    for dtype in emulated.DTYPE_CODES:
        for branches, equal in ((3, 1), (3, 2), (8, 4)):
            rng = np.random.default_rng(equal)
            alpha, w = exact_alpha("float32", branches, equal)
            stored = [emulated.to_bits(8 * whole(rng, 777, 3), dtype) for _ in range(branches + 1)]
            operands = Operands(dtype, alpha.data, stored[1:], stored[0])
            a, dg = operands.wide()
            g, _ = aggregate.forward(operands)
            np.testing.assert_array_equal(emulated.to_float64(g, dtype), w @ a)
            dalpha, da, _ = aggregate.backward(operands)
            np.testing.assert_array_equal(dalpha, w * (a @ dg - w @ a @ dg))
            for k in range(branches):
                np.testing.assert_array_equal(emulated.to_float64(da[k], dtype), w[k] * dg)


@needs_this_process
@pytest.mark.parametrize("impl", ["native", "reference", "akg"])
@pytest.mark.parametrize("equal", [1, 2])
def test_implementations_in_mindspore(impl, equal, pynative):
    ms = pytest.importorskip("mindspore")
    from maam_ops import _select, functional

    reason = next(i.why_not() for i in _select.implementations("agent_aggregate") if i.name == impl)
    if reason is not None:
        pytest.skip(reason)
    rng = np.random.default_rng(equal)
    alpha, w = exact_alpha("float32", 3, equal)
    branches = [whole(rng, (8, 32)).astype(np.float32) for _ in range(3)]
    incoming = whole(rng, (8, 32)).astype(np.float32)

    def loss(alpha, *a):
        g = functional.agent_aggregate(alpha, *a, impl=impl)
        return (g * ms.Tensor(incoming)).sum(), g

    gradient = ms.value_and_grad(loss, grad_position=(0, 1, 2, 3), has_aux=True)
    (_, g), grads = gradient(ms.Tensor(alpha.data), *map(ms.Tensor, branches))
    np.testing.assert_array_equal(g.asnumpy(), np.tensordot(w, np.stack(branches), 1))
    dots = (np.stack(branches) * incoming).sum((1, 2))
    np.testing.assert_array_equal(grads[0].asnumpy(), w * (dots - w @ dots))
    for got, weight in zip(grads[1:], w, strict=True):
        np.testing.assert_array_equal(got.asnumpy(), weight * incoming)
