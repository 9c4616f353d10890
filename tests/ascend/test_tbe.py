"""The TBE operators, recorded and run by an interpreter of the DSL."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.maam_ops import oracle

INTERPRETER = str(Path(__file__).with_name("tbe_interpreter"))
MODULES = ("maam_ops.ascend._tbe", "maam_ops.ascend.aggregate_tbe", "maam_ops.ascend.reduce_tbe")
TOLERANCE = {"float32": 1e-6, "float16": 1e-3}


@pytest.fixture(scope="module")
def tbe():
    """The operators' modules, imported with the interpreter in the place of CANN's package."""
    if importlib.util.find_spec("tbe") is not None:
        pytest.skip("CANN's own tbe is installed: run pytest -m ascend")
    sys.path.insert(0, INTERPRETER)
    try:
        _, aggregate, reduce = (importlib.import_module(name) for name in MODULES)
        graph = importlib.import_module("tbe.graph")
        yield SimpleNamespace(aggregate=aggregate, reduce=reduce, dsl=importlib.import_module("tbe.dsl"),
                              tvm=importlib.import_module("tbe.tvm"), built=graph.BUILT.programs)  # fmt: skip
    finally:
        sys.path.remove(INTERPRETER)
        for name in [name for name in sys.modules if name in MODULES or name.split(".")[0] == "tbe"]:
            del sys.modules[name]


def described(shape, dtype, dynamic=False):
    """An operand as MindSpore describes it to a TBE operator."""
    extents = [-1] * len(shape) if dynamic else list(shape)
    return {"shape": tuple(extents), "dtype": dtype, "format": "ND", "range": [(1, None)] * len(shape)}


def built(tbe, function, *arguments):
    """The program that one call of an operator's function builds."""
    tbe.built.clear()
    function(*arguments, kernel_name="kernel")
    (program,) = tbe.built
    return program


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_aggregate_forward_and_backward(tbe, dtype, dynamic, count):
    shape = (2, 5, 3)
    rng = np.random.default_rng(count)
    a = rng.standard_normal((count, *shape)).astype(dtype)
    dg = rng.standard_normal(shape).astype(dtype)
    w = oracle.softmax(rng.standard_normal(count)).astype(np.float32)
    scalars = [w[k : k + 1].reshape(1, 1, 1) for k in range(count)]
    data = described(shape, dtype, dynamic)
    weights = [described((1,), "float32")] * count
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}

    (g,) = built(tbe, tbe.aggregate.agent_aggregate_tbe, weights, [data] * count, data).run(*scalars, *a)
    assert g.dtype == dtype
    np.testing.assert_allclose(g, np.tensordot(w.astype(float), a.astype(float), 1), **tolerance)

    da = built(tbe, tbe.aggregate.agent_aggregate_scale_tbe, data, weights, [data] * count).run(dg, *scalars)
    for k in range(count):
        np.testing.assert_allclose(da[k], w[k].astype(float) * dg, **tolerance)

    dot = described((1,), "float32")
    (value,) = built(tbe, tbe.aggregate.agent_aggregate_dot_tbe, data, data, dot).run(dg, a[0])
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, [np.vdot(dg.astype(float), a[0])], rtol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("dynamic", [False, True])
def test_scale_shift_relu(tbe, dtype, dynamic):
    rng = np.random.default_rng(1)
    z = rng.standard_normal((2, 4, 3, 5)).astype(dtype)
    scale, shift = (rng.standard_normal((1, 4, 1, 1)).astype(np.float32) for _ in range(2))
    description = described(z.shape, dtype, dynamic)
    description["shape"] = tuple(4 if axis == 1 else extent for axis, extent in enumerate(description["shape"]))
    vector = described((4,), "float32")
    program = built(tbe, tbe.reduce.scale_shift_relu_tbe, description, vector, vector, description)
    (f,) = program.run(z, scale, shift)
    expected = np.maximum(z.astype(float) * scale + shift, 0)
    np.testing.assert_allclose(f, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_dynamic_program_serves_several_shapes_and_rejects_unequal_ones(tbe):
    data = described((1, 1), "float32", dynamic=True)
    program = built(tbe, tbe.aggregate.agent_aggregate_tbe, [described((1,), "float32")] * 2, [data] * 2, data)
    half = np.full((1, 1), 0.5, np.float32)
    for shape in ((2, 3), (7, 1)):
        ones = np.ones(shape, np.float32)
        np.testing.assert_array_equal(program.run(half, half, ones, ones)[0], ones)
    with pytest.raises(ValueError, match="expected 2 for"):
        program.run(half, half, np.ones((2, 3), np.float32), np.ones((3, 3), np.float32))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("aggregate", "agent_aggregate_tbe"),
        ("aggregate", "agent_aggregate_scale_tbe"),
        ("aggregate", "agent_aggregate_dot_tbe"),
        ("reduce", "scale_shift_relu_tbe"),
    ],
)
def test_registration_fits_the_signature(tbe, module, name):
    function = getattr(getattr(tbe, module), name)
    info = function.reg_info
    info = info[0] if isinstance(info, (list, tuple)) else info
    registered = [operand["name"] for operand in (*info["inputs"], *info["outputs"])]
    parameters = list(inspect.signature(function).parameters)
    assert [*registered, "kernel_name"] == parameters
    assert info["op_name"] == name and info["target"] == "Ascend"
    assert all(len(combination) == len(registered) for combination in info["dtype_format"])
    last_data = registered.index({"agent_aggregate_dot_tbe": "branch"}.get(name, registered[-1]))
    assert {combination[last_data][0] for combination in info["dtype_format"]} == set(TOLERANCE)


def test_operators_are_accepted_by_mindspore(tbe):
    assert tbe.aggregate.make_op(3).func_type == "tbe"


def test_wrong_operands_are_named(tbe):
    one, data = described((1,), "float32"), described((2, 3), "float32")
    aggregate = tbe.aggregate.agent_aggregate_tbe
    with pytest.raises(RuntimeError, match=r"branches\[1\]: got shape \(3, 2\), expected \(2, 3\)"):
        built(tbe, aggregate, [one, one], [data, described((3, 2), "float32")], data)
    with pytest.raises(RuntimeError, match="weights: got 1, expected 2"):
        built(tbe, aggregate, [one], [data, data], data)
    with pytest.raises(RuntimeError, match=r"weights\[0\]: got shape \(2,\), expected \(1,\)"):
        built(tbe, aggregate, [described((2,), "float32"), one], [data, data], data)
    with pytest.raises(RuntimeError, match=r"weights\[0\]: dtype int8"):
        built(tbe, aggregate, [described((1,), "int8"), one], [data, data], data)
    with pytest.raises(RuntimeError, match="got dtype float16, expected float32"):
        built(tbe, aggregate, [one, one], [data, described((2, 3), "float16")], data)
    with pytest.raises(RuntimeError, match="kernel_name 2bad"):
        aggregate([one, one], [data, data], data, kernel_name="2bad")


# Faults: what an operator's author may get wrong, each of which the interpreter must refuse.


def test_interpreter_refuses_an_implicit_broadcast(tbe):
    x, w = tbe.tvm.placeholder((2, 3), "float32", "x"), tbe.tvm.placeholder((1, 1), "float32", "w")
    with tbe.dsl.compute(), pytest.raises(RuntimeError, match="broadcast is explicit"):
        tbe.dsl.vmul(x, w)


def test_interpreter_refuses_mixed_types(tbe):
    x, y = tbe.tvm.placeholder((2,), "float32", "x"), tbe.tvm.placeholder((2,), "float16", "y")
    with tbe.dsl.compute(), pytest.raises(RuntimeError, match="dtypes float32 and float16 differ"):
        tbe.dsl.vadd(x, y)


def test_interpreter_refuses_an_impossible_broadcast(tbe):
    x = tbe.tvm.placeholder((2, 1), "float32", "x")
    with tbe.dsl.compute(), pytest.raises(RuntimeError, match="broadcast: shape"):
        tbe.dsl.broadcast(x, (3, 4))


def test_interpreter_refuses_a_computation_outside_compute(tbe):
    with pytest.raises(RuntimeError, match="outside"):
        tbe.dsl.vrelu(tbe.tvm.placeholder((2,), "float32", "x"))


@pytest.mark.parametrize("fault", ["unused", "missing", "order", "result"])
def test_interpreter_refuses_a_wrong_tensor_list(tbe, fault):
    x, y = (tbe.tvm.placeholder((2,), "float32", name) for name in "xy")
    with tbe.dsl.compute():
        total = tbe.dsl.vadd(x, x) if fault == "unused" else tbe.dsl.vadd(x, y)
        other = tbe.dsl.vrelu(total)
    tensors = {"missing": [x, total], "order": [x, total, y]}.get(fault, [x, y, total])
    schedule = tbe.dsl.auto_schedule(other if fault == "result" else total)
    message = {"unused": "y is never used", "missing": "y is not in tensor_list", "order": "come after",
               "result": "different results"}[fault]  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        tbe.dsl.build([schedule], {"name": "kernel", "tensor_list": [tensors]})
