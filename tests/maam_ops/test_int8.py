"""The operators on bytes in MindSpore: both modes, both implementations, the same bits."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import maam_ops
from maam_ops.dense_int8 import DenseInt8
from maam_ops.explain import kernels_run
from maam_ops.maam_deep_int8 import MaamDeepInt8, pack_second
from maam_ops.maam_int8 import MaamInt8

from . import int8_case
from .int8_case import DenseInt8Case, MaamDeepInt8Case, MaamInt8Case

IMPLS = ["native", "reference"]


def dense_cell(case, impl):
    return DenseInt8(case.weight, case.bias.data, case.scale.data, relu=not case.floats, impl=impl)


def module_cell(case, impl):
    step = case.per_step, case.zero
    tail = case.scale, *case.reduce, case.reduce_scale
    if not isinstance(case, MaamDeepInt8Case):
        return MaamInt8(step, case.branches, *tail, impl=impl)
    branches = [
        (*first, scale, *second)
        for first, scale, second in zip(case.branches, case.first_scales, case.seconds, strict=True)
    ]
    return MaamDeepInt8(step, branches, *tail, impl=impl)


def run(cell, x):
    """What a Cell gives, and the kernels that ran."""
    results = []

    def call():
        results.append(cell(x))
        return results

    ran = kernels_run(call)
    return results[0], ran


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("floats", [True, False])
def test_dense(mode, impl, floats):
    case = DenseInt8Case(6, 300, 21, floats=floats)
    cell = dense_cell(case, impl)
    x = Tensor(case.x.data.reshape(2, 3, -1))
    got, ran = run(cell, x)
    assert {name.split("/")[0] for name in ran} == ({"dense_int8"} if impl == "native" else set())
    np.testing.assert_array_equal(got.asnumpy(), case.expected().reshape(2, 3, -1))
    assert got.dtype == (ms.float32 if floats else ms.uint8)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    "case",
    [
        MaamInt8Case((2, 3, 9, 12), 18, 6, (3, 1, 5)),
        MaamDeepInt8Case((2, 3, 9, 12), 6, 18, 7, (3, 1), zero=0),
    ],
    ids=["maam", "maam_deep"],
)
def test_modules(mode, impl, case):
    values = case.x.values.astype(np.float32)
    values[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    case.x = int8_case.Array(values, "float32")
    cell = module_cell(case, impl)
    got, ran = run(cell, Tensor(values))
    op = cell.choice.op
    assert {name.split("/")[0] for name in ran} == ({op} if impl == "native" else set())
    np.testing.assert_array_equal(got.asnumpy(), case.expected())


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16])
def test_half_images_are_widened(pynative, dtype):
    case = MaamInt8Case((2, 3, 8, 8))
    x = Tensor(case.x.data).astype(dtype)
    case.x = int8_case.Array(x.float().asnumpy(), "float32")
    np.testing.assert_array_equal(module_cell(case, "native")(x).asnumpy(), case.expected())


def test_dynamic_batch_in_graph_mode(graph):
    case = MaamInt8Case((3, 3, 8, 8), 5, 6, (3, 3))
    module, layer = module_cell(case, "native"), dense_cell(DenseInt8Case(1, 12, 3), "native")
    module.set_inputs(Tensor(shape=[None, 3, 8, 8], dtype=ms.float32))
    layer.set_inputs(Tensor(shape=[None, 12], dtype=ms.uint8))
    for count in (1, 3):
        np.testing.assert_array_equal(module(Tensor(case.x.data[:count])).asnumpy(), case.expected()[:count])
        assert layer(Tensor(np.ones((count, 12), np.uint8))).shape == (count, 4)


def test_compare(pynative):
    case = MaamInt8Case((2, 3, 8, 8))
    report = maam_ops.compare(module_cell(case, "auto"), Tensor(case.x.data), grad=False)
    assert report and report.differences[0].max_abs == 0


def test_packing_is_that_of_the_kernels():
    weight = np.random.default_rng(0).integers(-127, 128, (21, 7, 3, 3))
    np.testing.assert_array_equal(maam_ops._int8.pack_conv(weight), int8_case.pack_conv(weight))
    np.testing.assert_array_equal(pack_second(weight), int8_case.pack_second(weight))


class TestErrors:
    def test_dense(self, pynative):
        case = DenseInt8Case(2, 12, 3)
        cell = dense_cell(case, "auto")
        with pytest.raises(TypeError, match=r"dense_int8: x: got dtype Float32, expected UInt8"):
            cell(Tensor(np.zeros((2, 12), np.float32)))
        with pytest.raises(ValueError, match=r"x: got shape \(2, 10\), expected \(..., K\), K a multiple of 4"):
            cell(Tensor(np.zeros((2, 10), np.uint8)))
        with pytest.raises(
            ValueError, match=r"weight for x \(2, 16\): got shape \(1, 3, 16, 4\), expected \(1, 4, 16, 4\)"
        ):
            cell(Tensor(np.zeros((2, 16), np.uint8)))

    @pytest.mark.parametrize("case", [MaamInt8Case((2, 3, 8, 8)), MaamDeepInt8Case((2, 3, 8, 8))])
    def test_modules(self, pynative, case):
        cell = module_cell(case, "auto")
        with pytest.raises(ValueError, match=r"x: got shape \(2, 3, 1, 8\), expected \(B, Cin, H, W\)"):
            cell(Tensor(np.zeros((2, 3, 1, 8), np.float32)))
        with pytest.raises(ValueError, match=r"branch 0.*: got shape \(1, 7, 16, 4\), expected \(1, 9, 16, 4\)"):
            cell(Tensor(np.zeros((2, 4, 8, 8), np.float32)))
        with pytest.raises(TypeError, match="x: got dtype Float64"):
            cell(Tensor(np.zeros((2, 3, 8, 8))))

    def test_no_gradient(self, pynative):
        case = MaamInt8Case((2, 3, 8, 8))
        cell = module_cell(case, "native")
        with pytest.raises(RuntimeError, match="bprop not defined"):
            ms.grad(lambda x: cell(x).astype(ms.float32).sum())(Tensor(case.x.data)).asnumpy()

    def test_unknown_implementation(self):
        with pytest.raises(ValueError, match=r"maam_ops\.maam_int8: impl: got 'fast'"):
            module_cell(MaamInt8Case((1, 3, 4, 4)), "fast")
