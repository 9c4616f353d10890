"""Gradients: central differences in float64 for every input of every operator, and every way a gradient can come in."""

import itertools

import numpy as np
import pytest

from tests.kernels import COMMAND
from tests.maam_ops import native
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.cross_entropy_case import CrossEntropyCase
from tests.maam_ops.native import Array
from tests.maam_ops.reduce_case import ReduceCase

from .draw import Draw
from .operators import OPERATORS
from .test_exact import FAR

STEP = 2.0**-20  # central differences then lose 2^-40 to the third derivative and 2^-32 to rounding
CLOSE = {"rtol": 1e-6, "atol": 1e-7}

# Kernels: the differences are of the forward kernel itself.


def differences(f, array):
    """d f / d array, one element after the other."""
    values = array.values.astype(np.float64)
    gradient = np.empty(values.shape)
    for i in np.ndindex(values.shape):
        sides = []
        for step in (STEP, -STEP):
            moved = values.copy()
            moved[i] += step
            array.data[...] = moved
            array.frozen()
            sides.append(f())
        gradient[i] = (sides[0] - sides[1]) / (2 * STEP)
    array.data[...] = values
    array.frozen()
    return gradient


ALPHAS = {"any": [0.3, -1.2, 0.8], "equal": [0.5, 0.5, 0.5], "saturated": [0, -FAR["float64"], -FAR["float64"]]}


@pytest.mark.parametrize("isa", native.isas("aggregate_forward"))
@pytest.mark.parametrize("alpha", ALPHAS)
def test_aggregate_kernel(isa, alpha):
    case = AggregateCase((2, 9), 3, "float64", offset=1)
    case.alpha = Array(ALPHAS[alpha], "float64")
    with native.capped(isa):
        dalpha, da = case.backward()

        def loss():
            return float((case.forward().values * case.dg.values).sum())

        for array, got in zip([case.alpha, *case.a], [dalpha, *da], strict=True):
            np.testing.assert_allclose(got.values.astype(float), differences(loss, array), **CLOSE)


@pytest.mark.parametrize("isa", native.isas("reduce_infer"))
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("branches", [1, 3])
def test_reduce_kernel(isa, training, branches):
    case = ReduceCase((2, 3, 5), 4, "float64", branches=branches)
    with native.capped(isa):
        got = case.backward(case.training() if training else None)

        def loss():
            f = case.training()[0] if training else case.inference()
            return float((f.values * case.df).sum())

        named = {"dweight": case.weight, "dgamma": case.gamma, "dbeta": case.beta}
        pairs = [(got[name], array) for name, array in named.items()] + list(zip(got["da"], case.a, strict=True))
        if branches > 1:
            pairs.append((got["dalpha"], case.alpha))
        for gradient, array in pairs:
            np.testing.assert_allclose(gradient.values.astype(float), differences(loss, array), **CLOSE)


@pytest.mark.parametrize("isa", native.isas("cross_entropy"))
@pytest.mark.parametrize("smoothing", [0, 0.25])
def test_cross_entropy_kernel(isa, smoothing):
    case = CrossEntropyCase(6, 5, "float64", smoothing=smoothing, ignored=[2], offset=1)
    with native.capped(isa):
        gradient = case.run()[1].values
        expected = differences(lambda: float(case.run()[0].values[0]), case.logits)
    np.testing.assert_allclose(gradient.astype(float), expected, **CLOSE)


def _drawn(name):
    """A case of which no pixel is near a tie or 0."""
    return next(operator for operator in OPERATORS if operator.name == name).draw(Draw("gradients"), "float32")


def _check_oracle(arrays, gradients, loss):
    """A kernel in float32 has no differences of use: those of the oracle that it is held to stand in for them."""
    for array, gradient in zip(arrays, gradients, strict=True):
        array.data, array.dtype = array.data.astype(np.float64), "float64"
        expected = differences(loss, array)
        np.testing.assert_allclose(gradient.astype(float), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_the_oracle_of_the_agent_block():
    case = _drawn("agent_block")
    arrays, gradients = [*case.first[:3], *case.second[:3], case.x], case.expected()[1]
    _check_oracle(arrays, gradients, lambda: float((case.expected()[0][0] * case.da.values).sum()))


def test_the_oracle_of_the_conv_block():
    case = _drawn("conv_block")
    expected = case.expected()
    gradients = [expected[name] for name in ("dW", "dgamma", "dbeta", "dX")]
    _check_oracle([*case.operands[:3], case.x], gradients, lambda: float((case.expected()["A"] * case.da.values).sum()))


def test_the_oracle_of_the_mix():
    case = _drawn("maam_mix")
    expected = case.expected()
    arrays = [case.alpha, *(array for branch in case.branches for array in branch[:3]), case.x]
    gradients = [*(expected[f"gradient {i}"] for i in range(len(arrays) - 1)), expected["dX"]]
    _check_oracle(arrays, gradients, lambda: float((case.expected()["G"] * case.dg.values).sum()))


def test_relu_at_zero_passes_nothing():
    """As MindSpore's ReLU; differences would give a half."""
    for branches in (1, 2):
        case = ReduceCase((1, 2, 40), 3, branches=branches)
        case.a = [Array(np.zeros((1, 2, 40)), "float32") for _ in case.a]
        case.beta = case.moving_mean = case.vector(np.zeros(3))
        for gradients in (case.backward(), case.backward(case.training())):
            assert not any(da.values.any() for da in gradients["da"]) and not gradients["dbeta"].values.any()


# Operators in MindSpore.


@pytest.fixture
def maam_ops(pynative):
    if COMMAND:
        pytest.skip("is about the process that calls the kernels")
    pytest.importorskip("mindspore")
    import maam_ops

    return maam_ops


def tensors(rng, *shapes, dtype=np.float64):
    import mindspore as ms

    return [ms.Tensor(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def _reduce_operands(rng, dtype=np.float64):
    import mindspore as ms

    operands = tensors(rng, (2, 3, 3, 2), (4, 3, 1, 1), (4,), (4,), (4,), dtype=dtype)
    return [*operands, ms.Tensor(rng.uniform(0.5, 1.5, 4).astype(dtype))]


def _operators(maam_ops, impl):
    """Each operator of the data types that have float64, as (function of the differentiable operands, operands)."""
    rng = np.random.default_rng(7)
    f = maam_ops.functional
    alpha, *branches = tensors(rng, (3,), *[(2, 3, 3, 2)] * 3)
    g, weight, gamma, beta, mean, variance = _reduce_operands(rng)

    def reduce(training):
        def run(g, weight, gamma, beta):
            result = f.reduce(g, weight, gamma, beta, mean, variance, training=training, impl=impl)
            return result[0] if training else result

        return run

    def aggregate_reduce(training):
        def run(alpha, a, b, c, weight, gamma, beta):
            result = f.aggregate_reduce(
                alpha, (a, b, c), weight, gamma, beta, mean, variance, training=training, impl=impl
            )
            return result[0] if training else result

        return run

    def composed(alpha, a, b, c, weight, gamma, beta):
        """The mixture twice, once behind the reduction."""
        mixed = f.agent_aggregate(alpha, a, b, c, impl=impl)
        reduced = f.reduce(mixed, weight, gamma, beta, mean, variance, training=True, impl=impl)[0]
        return reduced.sum((2, 3)) * f.agent_aggregate(alpha, c, a, mixed, impl=impl).mean()

    yield lambda alpha, a, b, c: f.agent_aggregate(alpha, a, b, c, impl=impl), [alpha, *branches]
    for training in (False, True):
        yield reduce(training), [g, weight, gamma, beta]
        yield aggregate_reduce(training), [alpha, *branches, weight, gamma, beta]
    yield composed, [alpha, *branches, weight, gamma, beta]


@pytest.mark.parametrize("number", range(6))
def test_operators_in_float64(maam_ops, number):
    import mindspore as ms

    function, operands = next(itertools.islice(_operators(maam_ops, "native"), number, None))
    df = np.random.default_rng(1).standard_normal(function(*operands).shape)
    loss = lambda *x: (function(*x) * ms.Tensor(df)).sum()  # noqa: E731 - the gradient takes a function
    got = ms.grad(loss, grad_position=tuple(range(len(operands))))(*operands)
    values = [operand.asnumpy() for operand in operands]
    for k, gradient in enumerate(got):
        for i in np.ndindex(values[k].shape):
            sides = []
            for step in (STEP, -STEP):
                moved = values[k].copy()
                moved[i] += step
                x = [*operands[:k], ms.Tensor(moved), *operands[k + 1 :]]
                sides.append(float((function(*x).asnumpy() * df).sum()))
            expected = (sides[0] - sides[1]) / (2 * STEP)
            np.testing.assert_allclose(gradient.asnumpy()[i], expected, **CLOSE, err_msg=f"input {k} at {i}")


class Directional:
    """<gradient, v> against the difference of a float32 operator along v, whose loss is summed up in float64.

    Along the gradient itself, which shows its length, and along a random v, which shows what is missing beside it.
    """

    STEP = 2.0**-7

    def __init__(self, function, operands):
        import mindspore as ms

        rng = np.random.default_rng(3)
        self.function, self.values = function, [operand.asnumpy() for operand in operands]
        self.df = rng.standard_normal(function(*operands).shape)
        df = ms.Tensor(self.df.astype(np.float32))
        gradient = ms.grad(lambda *x: (function(*x) * df).sum(), grad_position=tuple(range(len(operands))))
        self.gradients = [g.asnumpy().astype(np.float64) for g in gradient(*operands)]
        self.rng = rng

    def difference(self, k, v):
        import mindspore as ms

        sides = []
        for step in (self.STEP, -self.STEP):
            x = [ms.Tensor(value) for value in self.values]
            x[k] = ms.Tensor((self.values[k] + step * v).astype(np.float32))
            sides.append((self.function(*x).asnumpy() * self.df).sum())
        return (sides[0] - sides[1]) / (2 * self.STEP)

    def check(self, k):
        gradient = self.gradients[k]
        length = np.linalg.norm(gradient)
        for v in (gradient * np.sqrt(gradient.size) / length, self.rng.standard_normal(gradient.shape)):
            got, expected = (gradient * v).sum(), self.difference(k, v)
            # A random v of n numbers meets a gradient at about |gradient|, a share of 1 / sqrt(n) of both lengths.
            assert abs(got - expected) <= 0.02 * max(abs(got), length), f"input {k}: {got}, difference {expected}"


@pytest.mark.parametrize("relu", [False, True])
def test_dense(maam_ops, relu):
    import mindspore as ms

    rng = np.random.default_rng(5)
    x, weight = tensors(rng, (3, 4, 20), (7, 20), dtype=np.float32)
    # No result within reach of 0, where the ReLU has no derivative.
    signs = np.sign(rng.standard_normal(7)).astype(np.float32)
    (bias,) = (ms.Tensor(30 * signs + tensor.asnumpy()) for tensor in tensors(rng, (7,), dtype=np.float32))
    check = Directional(lambda *a: maam_ops.functional.dense(*a, relu=relu, impl="native"), [x, weight, bias])
    for k in range(3):
        check.check(k)


@pytest.mark.parametrize("wrong", [lambda g: 1.1 * g, lambda g: 0.9 * g, lambda g: -g, lambda g: np.roll(g, 1)])
def test_a_wrong_gradient_is_found(maam_ops, wrong):
    rng = np.random.default_rng(5)
    operands = tensors(rng, (3, 4, 20), (7, 20), (7,), dtype=np.float32)
    check = Directional(lambda *a: maam_ops.functional.dense(*a, impl="native"), operands)
    check.gradients = [wrong(gradient) for gradient in check.gradients]
    for k in range(3):
        with pytest.raises(AssertionError, match=f"input {k}"):
            check.check(k)


def test_composed_float32_net(maam_ops):
    """Mixture, reduction and dense layer in a row, all fused."""
    rng = np.random.default_rng(6)
    f = maam_ops.functional
    alpha, a, b, dense = tensors(rng, (2,), (4, 3, 5, 5), (4, 3, 5, 5), (6, 100), dtype=np.float32)
    _, weight, gamma, beta, mean, variance = _reduce_operands(rng, np.float32)

    def net(alpha, a, b, weight, gamma, dense):
        mixed = f.aggregate_reduce(alpha, (a, b), weight, gamma, beta + 3, mean, variance, training=True, impl="native")
        return f.dense(mixed[0].reshape((4, 100)), dense, impl="native")

    check = Directional(net, [alpha, a, b, weight, gamma, dense])
    for k in range(6):
        check.check(k)


# How the gradient comes in, which inputs ask for one, and how often an input is used.

INCOMING = {
    "expanded": lambda f, ops: f.sum(),
    "strided": lambda f, ops: (f[..., ::2] * f[..., ::2]).sum(),
    "transposed": lambda f, ops: (f.transpose((3, 1, 0, 2)) * ops.arange(f.size).reshape((2, -1, 2, 3))).sum(),
    "a slice": lambda f, ops: (f[:1, 1:] ** 2).sum(),
    "broadcast": lambda f, ops: (ops.broadcast_to(f.mean((0, 2, 3), keep_dims=True), f.shape) * f).sum(),
    "none of it": lambda f, ops: (f * 0).sum(),
}


@pytest.mark.parametrize("incoming", INCOMING)
@pytest.mark.parametrize("number", range(5))
def test_incoming_gradients_of_any_layout(maam_ops, number, incoming):
    for got, expected in _gradients_of(_operators, maam_ops, number, incoming):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("incoming", INCOMING)
@pytest.mark.parametrize("number", range(5))
def test_incoming_gradients_of_any_layout_in_float32(maam_ops, number, incoming):
    for got, expected in _gradients_of(_operators_in_float32, maam_ops, number, incoming):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4 * (1 + np.abs(expected).max()))


def _gradients_of(operators, maam_ops, number, incoming):
    """Pairs of gradients, of the kernels and of the reference."""
    import mindspore as ms

    grads = []
    for impl in ("native", "reference"):
        function, operands = next(itertools.islice(operators(maam_ops, impl), number, None))
        loss = lambda *x, function=function: INCOMING[incoming](function(*x), ms.ops)  # noqa: E731
        got = ms.grad(loss, grad_position=tuple(range(len(operands))))(*operands)
        grads.append([gradient.asnumpy() for gradient in got])
    return zip(*grads, strict=True)


def _operators_in_float32(maam_ops, impl):
    """The operators without float64; each result has the shape (2, 4, 3, 2)."""
    import mindspore as ms

    rng = np.random.default_rng(10)
    f = maam_ops.functional
    x, weight, bias = tensors(rng, (2, 4, 3, 20), (2, 20), (2,), dtype=np.float32)
    yield lambda x, weight, bias: f.dense(x, weight, bias, relu=True, impl=impl), [x, weight, bias]

    mean, variance = ms.Tensor(np.zeros(4, np.float32)), ms.Tensor(np.ones(4, np.float32))
    images, alpha, w1, w2, w3, gamma, beta = tensors(
        rng, (2, 3, 6, 4), (2,), (4, 3, 3, 3), (4, 3, 1, 1), (4, 4, 3, 3), (4,), (4,), dtype=np.float32
    )

    def block(x, w1, w3, gamma, beta):
        return f.agent_block(x, (w1, gamma, beta, mean, variance), (w3, gamma, beta, mean, variance), impl=impl)[0]

    yield block, [images, w1, w3, gamma, beta]

    def module(x, alpha, w1, w2, weight, gamma, beta):
        norm = (gamma, beta, mean, variance)
        return f.maam(x, alpha, [(w1, *norm), (w2, *norm)], weight, *norm, training=True, impl=impl)[0]

    yield module, [images, alpha, w1, w2, w3[:, :, :1, :1], gamma, beta]

    def mix(x, alpha, w1, w2, gamma, beta):
        norm = (gamma, beta, mean, variance)
        return f.maam_mix(x, alpha, [(w1, *norm), (w2, *norm)], training=True, impl=impl)[0]

    yield mix, [images, alpha, w1, w2, gamma, beta]

    def convolution(x, w3, gamma, beta):
        x = x.reshape((2, 4, 3, 6))
        return f.conv_block(x, w3, gamma, beta, mean, variance, training=True, impl=impl)[0][..., ::3]

    yield convolution, [images, w3, gamma, beta]


@pytest.mark.parametrize("number", range(5))
def test_inputs_that_ask_for_no_gradient(maam_ops, number):
    """Any subset gives what all give."""
    import mindspore as ms

    function, operands = next(itertools.islice(_operators(maam_ops, "native"), number, None))
    loss = lambda *x: (function(*x) ** 2).sum()  # noqa: E731
    everything = ms.grad(loss, grad_position=tuple(range(len(operands))))(*operands)
    for k in range(len(operands)):
        one = ms.grad(loss, grad_position=k)(*operands)
        assert one.asnumpy().tobytes() == everything[k].asnumpy().tobytes()
    stopped = ms.grad(lambda first, *rest: loss(ms.ops.stop_gradient(first), *rest), grad_position=0)(*operands)
    assert not stopped.asnumpy().any()


def test_an_input_used_twice(maam_ops):
    """Its gradients add up: as several branches, and in two calls."""
    import mindspore as ms

    rng = np.random.default_rng(8)
    alpha, a, b = tensors(rng, (3,), (2, 5), (2, 5))
    f = maam_ops.functional.agent_aggregate
    w = np.exp(alpha.asnumpy() - alpha.asnumpy().max())
    w /= w.sum()
    da, db = ms.grad(lambda a, b: f(alpha, a, b, a, impl="native").sum(), grad_position=(0, 1))(a, b)
    np.testing.assert_allclose(da.asnumpy(), np.full((2, 5), w[0] + w[2]), rtol=1e-12)
    np.testing.assert_allclose(db.asnumpy(), np.full((2, 5), w[1]), rtol=1e-12)
    twice = ms.grad(lambda a: (f(alpha, a, b, b, impl="native") + f(alpha, b, a, b, impl="native")).sum())(a)
    np.testing.assert_allclose(twice.asnumpy(), np.full((2, 5), w[0] + w[1]), rtol=1e-12)
    same = ms.grad(lambda alpha: f(alpha, a, a, a, impl="native").sum())(alpha)
    np.testing.assert_allclose(same.asnumpy(), 0, atol=1e-14)


def test_ties_of_the_whole_module(maam_ops):
    """Pooled pixels that tie: the gradient goes to the first, as in the reference."""
    import mindspore as ms

    rng = np.random.default_rng(9)
    images = np.repeat(np.repeat(rng.standard_normal((2, 3, 4, 4)), 2, 2), 2, 3).astype(np.float32)
    vectors = [ms.Tensor(np.full(4, value, np.float32)) for value in (1, 0.5, 0, 1)]
    branches = [(weight, *vectors) for weight in tensors(rng, (4, 3, 1, 1), (4, 3, 1, 1), dtype=np.float32)]
    alpha, weight = tensors(rng, (2,), (4, 4, 1, 1), dtype=np.float32)

    def gradient(impl):
        def loss(x):
            f = maam_ops.functional.maam(x, alpha, branches, weight, *vectors, training=True, impl=impl)[0]
            return (f * ms.ops.arange(f.size).reshape(f.shape)).sum()

        return ms.grad(loss)(ms.Tensor(images)).asnumpy()

    got = gradient("native")
    np.testing.assert_allclose(got, gradient("reference"), rtol=1e-3, atol=1e-3)
    first = np.zeros((8, 8), bool)
    first[::2, ::2] = True
    assert got[..., first].any()
