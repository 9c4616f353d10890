"""agent_aggregate in MindSpore: both modes, both implementations, and which one ran."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import agent_aggregate

from . import oracle
from .cells import check_mixed_precision

IMPLS = ["native", "reference"]
TOLERANCE = {ms.float32: 2e-6, ms.float16: 2e-3, ms.bfloat16: 1.6e-2, ms.float64: 1e-12}


def tensors(shape, count, dtype=ms.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.standard_normal(shape)).astype(dtype) for _ in range(count)]


def as_double(tensor):
    return (tensor.float() if tensor.dtype in (ms.bfloat16, ms.float16) else tensor).asnumpy().astype(np.float64)


def value_and_gradients(cell, branches, incoming):
    """Output, gradients of the branches and of alpha, for a given incoming gradient."""

    def loss(*inputs):
        g = cell(*inputs)
        return (g.astype(incoming.dtype) * incoming).sum(), g

    gradient = ms.value_and_grad(
        loss, grad_position=tuple(range(len(branches))), weights=cell.trainable_params(), has_aux=True
    )
    (_, g), (by_branch, by_alpha) = gradient(*branches)
    return g, by_branch, by_alpha[0]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_forward_and_backward_match_the_oracle(mode, impl, dtype):
    cell = maam_ops.FusedAgentAggregate(3, [0.3, -0.2, 1.0], impl=impl)
    branches = tensors((2, 3, 5, 7), 3, dtype)
    wide = ms.float64 if dtype == ms.float64 else ms.float32
    incoming = tensors((2, 3, 5, 7), 1, dtype, seed=1)[0].astype(wide)
    results = []
    ran = kernels_run(lambda: results.extend(value_and_gradients(cell, branches, incoming)) or results[0])
    g, by_branch, by_alpha = results

    alpha = as_double(cell.alpha)
    a = [as_double(branch) for branch in branches]
    w, dg = oracle.softmax(alpha), as_double(incoming)
    assert g.dtype == dtype and by_alpha.dtype == ms.float32
    np.testing.assert_allclose(as_double(g), oracle.aggregate(alpha, a), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for weight, got in zip(w, by_branch, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(as_double(got), weight * dg, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    dots = np.array([np.vdot(dg, branch) for branch in a])
    np.testing.assert_allclose(as_double(by_alpha), w * (dots - w @ dots), rtol=1e-4, atol=1e-4)

    kernels = {name.split("/")[0] for name in ran}
    assert kernels == ({"aggregate_forward", "aggregate_backward"} if impl == "native" else set())


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_by_central_differences(pynative, impl):
    rng = np.random.default_rng(3)
    alpha, branches = rng.standard_normal(4), rng.standard_normal((4, 2, 3))
    weights = rng.standard_normal((2, 3))

    def loss(alpha, *branches):
        return (agent_aggregate(alpha, *branches, impl=impl) * Tensor(weights)).sum()

    got = ms.grad(loss, grad_position=(0, 1, 2, 3, 4))(Tensor(alpha), *map(Tensor, branches))
    by_alpha = oracle.numeric_gradient(lambda x: float((oracle.aggregate(x, branches) * weights).sum()), alpha.copy())
    by_branches = oracle.numeric_gradient(
        lambda x: float((oracle.aggregate(alpha, x) * weights).sum()), branches.copy()
    )
    np.testing.assert_allclose(got[0].asnumpy(), by_alpha, rtol=1e-6, atol=1e-8)
    for tensor, expected in zip(got[1:], by_branches, strict=True):
        np.testing.assert_allclose(tensor.asnumpy(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("count", range(2, 9))
def test_every_number_of_branches_and_shape_of_alpha(pynative, count):
    branches = tensors((3, 4), count)
    alpha = np.linspace(-1, 1, count).astype(np.float32)
    expected = oracle.aggregate(alpha, [as_double(b) for b in branches])
    for shape in ((count,), (count, 1, 1, 1), (1, count), (count, 1)):
        parameter = Parameter(Tensor(alpha.reshape(shape)), name="mixture")
        cell = maam_ops.FusedAgentAggregate.from_parameter(parameter)
        assert cell.alpha is parameter and parameter.name == "mixture"
        np.testing.assert_allclose(cell(branches).asnumpy(), expected, rtol=1e-5, atol=1e-6)
        gradient = ms.grad(lambda cell=cell: cell(*branches).sum(), None, [parameter])()
        assert gradient[0].shape == shape


def test_dynamic_shape_in_graph_mode(graph):
    for impl in IMPLS:
        cell = maam_ops.FusedAgentAggregate(2, impl=impl)
        cell.set_inputs(*[Tensor(shape=[None, 3, None], dtype=ms.float32)] * 2)
        for shape in ((2, 3, 4), (5, 3, 9)):
            branches = tensors(shape, 2)
            expected = (branches[0].asnumpy() + branches[1].asnumpy()) / 2
            np.testing.assert_allclose(cell(*branches).asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_both_implementations_agree_on_an_empty_batch(pynative):
    for impl in IMPLS:
        assert maam_ops.FusedAgentAggregate(2, impl=impl)(*tensors((0, 3, 4, 4), 2)).shape == (0, 3, 4, 4)


def test_views_and_expanded_gradients(pynative):
    """Slices, transposed inputs, and the stride-0 gradient of a sum."""
    whole = tensors((6, 5, 4), 2)
    cell = maam_ops.FusedAgentAggregate(2, [0.5, -0.5], impl="native")
    views = [t.transpose(2, 0, 1)[:, 1:5:2] for t in whole]
    expected = oracle.aggregate(as_double(cell.alpha), [as_double(t).transpose(2, 0, 1)[:, 1:5:2] for t in whole])
    np.testing.assert_allclose(cell(*views).asnumpy(), expected, rtol=1e-5, atol=1e-6)
    gradient = ms.grad(lambda a, b: cell(a.swapaxes(0, 1), b.swapaxes(0, 1)).sum(), (0, 1))(*whole)
    w = oracle.softmax(as_double(cell.alpha))
    for weight, got in zip(w, gradient, strict=True):
        np.testing.assert_allclose(got.asnumpy(), np.full((6, 5, 4), weight), rtol=1e-6)


def test_same_tensor_as_two_branches(pynative):
    """The gradients of both uses are added."""
    x = tensors((3, 4), 1)[0]
    gradient = ms.grad(lambda t: agent_aggregate(Tensor([0.0, 1.0]), t, t, impl="native").sum())(x)
    np.testing.assert_allclose(gradient.asnumpy(), np.ones((3, 4)), rtol=1e-6)


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Dense(4, 4), nn.Dense(4, 4)
        self.mix = maam_ops.FusedAgentAggregate(2, [0.1, -0.1], impl="native")

    def construct(self, x):
        return self.mix([self.left(x), self.right(x)])


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_automatic_mixed_precision(mode, level):
    net = Net()
    x, incoming = tensors((3, 4), 2)

    check_mixed_precision(net, level, x, incoming, {"aggregate_forward", "aggregate_backward"})


class TestErrors:
    """One error that names operator, argument, what was got and what was expected - in both modes."""

    def check(self, error, message, *branches, alpha=2):
        with pytest.raises(error, match=message):
            maam_ops.FusedAgentAggregate(alpha)(*branches).asnumpy()

    def test_number_of_branches(self, mode):
        self.check(ValueError, r"FusedAgentAggregate: branches: got 3, expected 2", *tensors((2, 2), 3))

    def test_shape(self, mode):
        a, b = tensors((2, 2), 1)[0], tensors((2, 3), 1)[0]
        self.check(ValueError, r"branch 1: got shape \(2, 3\), expected that of branch 0, \(2, 2\)", a, b)

    def test_dtype(self, mode):
        a, b = tensors((2, 2), 2)
        self.check(TypeError, r"branch 1: got dtype Float16, expected that of", a, b.astype(ms.float16))

    def test_integers(self, pynative):
        a, b = tensors((2, 2), 2)
        self.check(TypeError, r"branch 0: got dtype Int32", a.astype(ms.int32), b.astype(ms.int32))

    def test_length_of_alpha(self, pynative):
        with pytest.raises(ValueError, match=r"alpha: got shape \(3,\), expected 2 elements"):
            agent_aggregate(Tensor([1.0, 2.0, 3.0]), *tensors((2, 2), 2))

    @pytest.mark.parametrize("count", [0, 1, 9])
    def test_limits(self, pynative, count):
        with pytest.raises(ValueError, match=f"got {count}, expected 2 to 8"):
            maam_ops.FusedAgentAggregate(count)

    def test_initial_values(self, pynative):
        with pytest.raises(ValueError, match="init: got 2 values, expected 3"):
            maam_ops.FusedAgentAggregate(3, [1.0, 2.0])

    @pytest.mark.parametrize("count", [3.0, None])
    def test_number_that_is_none(self, count):
        with pytest.raises(TypeError, match=f"FusedAgentAggregate: branches: got {count}, expected a whole number"):
            maam_ops.FusedAgentAggregate(count)

    def test_what_is_no_tensor(self, pynative):
        x = tensors((2, 2), 1)[0]
        with pytest.raises(TypeError, match=r"agent_aggregate: alpha: got a NoneType, expected a mindspore\.Tensor"):
            agent_aggregate(None, x, x)
        with pytest.raises(TypeError, match=r"agent_aggregate: branch 1: got a NoneType, expected a mindspore\.Tensor"):
            agent_aggregate(Tensor([1.0, 2.0]), x, None)


class TestChoice:
    def test_environment(self, pynative, monkeypatch):
        monkeypatch.setenv("MAAM_OPS_IMPL", "reference")
        assert maam_ops.FusedAgentAggregate(2).impl == "reference"
        assert maam_ops.FusedAgentAggregate(2, impl="native").impl == "native"
        monkeypatch.setenv("MAAM_OPS_IMPL", "natve")
        with pytest.raises(ValueError, match="MAAM_OPS_IMPL: got 'natve', expected one of auto, native, reference"):
            maam_ops.FusedAgentAggregate(2)

    def test_a_cell_keeps_its_choice_when_the_environment_changes(self, pynative, monkeypatch):
        cell, branches = maam_ops.FusedAgentAggregate(2), tensors((2, 2), 2)
        for value in ("reference", "natve"):
            monkeypatch.setenv("MAAM_OPS_IMPL", value)
            assert {name.split("/")[0] for name in maam_ops.explain(cell, *branches).kernels} == {"aggregate_forward"}

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="impl: got 'fast', expected one of auto, native, reference"):
            maam_ops.FusedAgentAggregate(2, impl="fast")

    def test_explicit_choice_never_falls_back(self, monkeypatch):
        from maam_ops import _native

        monkeypatch.setattr(_native, "missing_reason", lambda symbols: "no compiler when it was installed")
        with pytest.raises(RuntimeError, match=r"impl=native: not available: no compiler .* Available: auto"):
            maam_ops.FusedAgentAggregate(2, impl="native")
        cell = maam_ops.FusedAgentAggregate(2)
        assert cell.impl == "reference"
        assert "not native: no compiler" in str(maam_ops.explain(cell))


def test_input_is_not_written(pynative):
    branches = tensors((64, 65), 3)
    before = [branch.asnumpy().copy() for branch in branches]
    cell = maam_ops.FusedAgentAggregate(3, impl="native")
    ms.grad(lambda *b: cell(*b).sum(), (0, 1, 2))(*branches)[0].asnumpy()
    for branch, kept in zip(branches, before, strict=True):
        np.testing.assert_array_equal(branch.asnumpy(), kept)


def test_errors_of_the_kernel_reach_the_user(pynative):
    """What Python cannot see, such as a wrong alpha behind the checks, the kernel says in words."""
    from maam_ops import aggregate

    with pytest.raises(RuntimeError, match="alpha: got shape 3, expected 2 elements"):
        aggregate._NATIVE[2](Tensor([1.0, 1.0, 1.0]), *tensors((2, 2), 2)).asnumpy()


def test_softmax_reference_accepts_ops_directly(pynative):
    branches = tensors((2, 2), 2)
    expected = ops.stack(branches).mean(0)
    got = maam_ops.reference.agent_aggregate(Tensor([2.0, 2.0]), *branches)
    np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-6)
