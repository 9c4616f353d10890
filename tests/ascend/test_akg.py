"""The AKG kernels: compiled and run by MindSpore's AKG on CPU in both modes, and run as plain Python."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import maam_ops
from maam_ops import _select
from maam_ops.ascend import _akg, aggregate_akg, reduce_akg
from maam_ops.functional import agent_aggregate, reduce
from tests.maam_ops import oracle

REASON = aggregate_akg.available()
needs_akg = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def compiled_kernels():
    """Names of the functions AKG compiled, from the descriptions it keeps in the working directory."""
    names = set()
    for file in Path("akg_kernel_meta").glob("*.info"):
        for op in json.loads(file.read_text())["op_desc"]:
            names |= {attribute["value"] for attribute in op["attr"] or () if attribute["name"] == "func_name"}
    return names


class Mix(nn.Cell):
    """A scalar whose gradients are those of agent_aggregate for a given incoming gradient."""

    def __init__(self, incoming, impl):
        super().__init__()
        self.incoming = Tensor(incoming)
        self.impl = impl

    def construct(self, alpha, a, b, c):
        return (agent_aggregate(alpha, a, b, c, impl=self.impl) * self.incoming).sum()


@needs_akg
# 7 x 5: no eight rows. 64 x 33: eight rows, and columns that are no multiple of a vector.
@pytest.mark.parametrize("shape", [(7, 5), (64, 33)])
def test_aggregate_matches_the_oracle(mode, shape):
    rng = np.random.default_rng(3)
    alpha = rng.standard_normal(3).astype(np.float32)
    branches = [rng.standard_normal(shape).astype(np.float32) for _ in range(3)]
    incoming = rng.standard_normal(shape).astype(np.float32)
    cell = Mix(incoming, "akg")
    gradient = ms.value_and_grad(cell, grad_position=(0, 1, 2, 3))
    value, (dalpha, *da) = gradient(Tensor(alpha), *map(Tensor, branches))

    a = np.stack(branches).astype(np.float64)
    w = oracle.softmax(alpha.astype(np.float64))
    dots = np.einsum("kij,ij->k", a, incoming)
    assert float(value.asnumpy()) == pytest.approx((oracle.aggregate(alpha, a) * incoming).sum(), rel=1e-4, abs=1e-4)
    np.testing.assert_allclose(dalpha.asnumpy(), w * (dots - w @ dots), rtol=1e-4, atol=1e-4)
    for k in range(3):
        np.testing.assert_allclose(da[k].asnumpy(), w[k] * incoming, rtol=1e-6, atol=1e-6)
    rows = 8 if np.prod(shape) % 8 == 0 else 1
    assert compiled_kernels() >= {"aggregate_3", f"aggregate_dots_3_{rows}", "aggregate_scale"}


@needs_akg
@pytest.mark.parametrize("count", [2, 8])
def test_aggregate_cell_of_any_number_of_branches(pynative, count):
    rng = np.random.default_rng(count)
    branches = rng.standard_normal((count, 3, 4, 5)).astype(np.float32)
    cell = maam_ops.FusedAgentAggregate(count, rng.standard_normal(count), impl="akg")
    got = cell(*map(Tensor, branches)).asnumpy()
    np.testing.assert_allclose(got, oracle.aggregate(cell.alpha.asnumpy(), branches), rtol=1e-6, atol=1e-6)


class Reduce(nn.Cell):
    def __init__(self, training, impl):
        super().__init__()
        self.on = training
        self.impl = impl

    def construct(self, g, weight, gamma, beta, mean, variance):
        result = reduce(g, weight, gamma, beta, mean, variance, training=self.on, impl=self.impl)
        return result[0] if self.on else result


@needs_akg
@pytest.mark.parametrize("training", [False, True])
def test_reduce_matches_the_reference(mode, training):
    rng = np.random.default_rng(5)
    shapes = ((2, 3, 5, 4), (6, 3, 1, 1), (6,), (6,), (6,), (6,))
    operands = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    operands[5] = np.abs(operands[5]) + 0.5
    tensors = [Tensor(x) for x in operands]
    f = Reduce(training, "akg")(*tensors)
    expected = (oracle.reduce_training(*operands)[0] if training else oracle.reduce_inference(*operands)).astype(float)
    np.testing.assert_allclose(f.asnumpy(), expected, rtol=1e-5, atol=1e-5)
    positions = (0, 1, 2, 3)
    got = ms.grad(Reduce(training, "akg"), positions)(*tensors)
    wanted = ms.grad(Reduce(training, "reference"), positions)(*tensors)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-4, atol=1e-4)
    assert compiled_kernels() >= {"normalise_relu", "relu_grad"}


@pytest.mark.parametrize("count", range(2, 9))
def test_aggregate_kernels_as_plain_python(count):
    rng = np.random.default_rng(count)
    a = rng.standard_normal((count, 8, 11)).astype(np.float32)
    dg = rng.standard_normal((8, 11)).astype(np.float32)
    w = oracle.softmax(rng.standard_normal(count)).astype(np.float32)
    forward = _akg.kernel_from_source(f"aggregate_{count}", aggregate_akg.forward_source(count))
    np.testing.assert_allclose(forward(*a, w), np.tensordot(w, a, 1), rtol=1e-5, atol=1e-6)
    dots = _akg.kernel_from_source(f"aggregate_dots_{count}_8", aggregate_akg.dots_source(count, 8))
    np.testing.assert_allclose(dots(dg, *a), (a * dg).sum(1), rtol=1e-5, atol=1e-5)
    scale = _akg.kernel_from_source("aggregate_scale", aggregate_akg.SCALE_SOURCE)
    np.testing.assert_array_equal(scale(dg, w[:1]), w[0] * dg)


def test_reduce_kernels_as_plain_python():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2, 3, 7)).astype(np.float32)
    mean, scale, beta = rng.standard_normal((3, 3)).astype(np.float32)
    normalise = _akg.kernel_from_source("normalise_relu", reduce_akg.NORMALISE_SOURCE)
    f = normalise(z, mean, scale, beta)
    column = (1, -1, 1)
    expected = (z - mean.reshape(column)) * scale.reshape(column) + beta.reshape(column)
    np.testing.assert_allclose(f, np.maximum(expected, 0), rtol=1e-6, atol=1e-6)
    mask = _akg.kernel_from_source("relu_grad", reduce_akg.MASK_SOURCE)
    np.testing.assert_array_equal(mask(f, z), z * (f > 0))


@needs_akg
def test_what_akg_cannot_do_is_an_error(pynative):
    half = [Tensor(np.ones((4, 4), np.float16))] * 2
    with pytest.raises(TypeError, match=r"agent_aggregate: impl='akg': got dtype Float16, expected Float32"):
        agent_aggregate(Tensor([0.0, 0.0]), *half, impl="akg")
    empty = [Tensor(np.ones((0, 4), np.float32))] * 2
    with pytest.raises(ValueError, match=r"impl='akg': got shape \(0, 4\)"):
        agent_aggregate(Tensor([0.0, 0.0]), *empty, impl="akg")


@pytest.mark.parametrize("op", ["agent_aggregate", "reduce"])
def test_auto_never_takes_akg(op):
    choice = _select.choose(op)
    assert choice.impl != "akg"
    assert choice.others["akg"] == (REASON or "only when asked for")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert _akg.missing.__wrapped__() == "AKG needs decorator and sympy: pip install 'maam-ops[akg]'"
