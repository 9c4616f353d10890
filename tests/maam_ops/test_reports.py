"""info, explain and compare: what people see when they ask what runs and whether it is right."""

import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import maam_ops
from maam_ops.compare import difference, main
from maam_ops.functional import agent_aggregate


def tensors(shape, count, seed=0):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.standard_normal(shape).astype(np.float32)) for _ in range(count)]


class Mixer(nn.Cell):
    def __init__(self):
        super().__init__()
        ms.set_seed(4)  # initial weights with which no gradient is a sum that cancels
        self.mix = maam_ops.FusedAgentAggregate(2, [0.5, -0.5])
        self.reduce = maam_ops.FusedReduce(4, 6)

    def construct(self, a, b):
        return self.reduce(self.mix(a, b))


def test_info_lists_every_operator_and_says_why_not(monkeypatch):
    from maam_ops import _native

    text = str(maam_ops.info())
    for op in ("agent_aggregate", "reduce", "aggregate_reduce"):
        assert text.count(f"\n{op} ") >= 2
    monkeypatch.setattr(_native, "missing_reason", lambda symbols: "no compiler when it was installed")
    row = next(row for row in maam_ops.info().rows if row.impl == "native")
    assert not row.available and "no compiler" in row.detail


def test_explain_names_the_cells_of_a_net_and_what_ran(pynative):
    explanation = maam_ops.explain(Mixer(), *tensors((2, 4, 3, 3), 2))
    assert set(explanation.choices) == {"mix", "reduce"}
    assert any(name.startswith("aggregate_forward/") for name in explanation.kernels)
    assert "mix: agent_aggregate: native" in str(explanation)


def test_explain_an_operator():
    assert maam_ops.explain("reduce", impl="reference").choices["reduce"].impl == "reference"
    assert maam_ops.explain(agent_aggregate).choices.keys() == {"agent_aggregate"}
    with pytest.raises(ValueError, match=r"got 'agregate', expected a Cell or one of .*agent_aggregate"):
        maam_ops.explain("agregate")


def test_explain_a_net_without_fused_operators():
    assert "see maam_ops.fuse" in str(maam_ops.explain(nn.Dense(2, 2)))


def test_compare_a_function():
    report = maam_ops.compare(agent_aggregate, Tensor([0.1, 0.2, 0.3]), *tensors((3, 5), 3))
    assert report and report.impl == "native" and report.kernels
    assert [d.name for d in report.differences] == ["output", *(f"gradient of input {i}" for i in range(4))]


def test_compare_a_net_restores_it():
    net = Mixer().set_train()
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    report = maam_ops.compare(net, *tensors((2, 4, 3, 3), 2))
    assert report, str(report)
    names = {d.name for d in report.differences}
    assert {"output", "gradient of mix.alpha", "gradient of reduce.weight"} <= names
    assert "reduce.moving_mean after the call" in names
    for parameter in net.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])
    assert net.mix.impl == "native" and net.training


@pytest.mark.parametrize("report", ["explain", "compare"])
def test_what_is_no_operator_is_named(report):
    with pytest.raises(TypeError, match=f"maam_ops.{report}: got int, expected a Cell or one of .*agent_aggregate"):
        getattr(maam_ops, report)(5)


def test_compare_needs_something_fused():
    with pytest.raises(ValueError, match="contains no fused operator"):
        maam_ops.compare(nn.Dense(2, 2), *tensors((2, 2), 1))
    with pytest.raises(ValueError, match=r"expected a Cell or one of .*agent_aggregate"):
        maam_ops.compare(np.add, 1, 2)


def test_compare_catches_a_wrong_kernel(monkeypatch, pynative):
    from maam_ops import aggregate

    monkeypatch.setattr(aggregate, "_run_native", lambda alpha, branches: branches[0])
    report = maam_ops.compare(agent_aggregate, Tensor([0.1, 0.2]), *tensors((3, 5), 2), impl="native")
    assert not report and "FAIL" in str(report)


def test_where_rounding_decides_over_a_relu_neither_side_is_called_wrong(capsys):
    assert main(["--dtype", "float16", "--op", "reduce"]) == 0
    report = capsys.readouterr().out
    assert "moves the reference by" in report and "FAIL" not in report


@pytest.mark.parametrize("factor", [1.3, 1.02])
def test_a_wrong_kernel_is_wrong_beside_such_a_relu_too(factor, monkeypatch, capsys):
    from maam_ops import reduce

    native = reduce._run_native

    def run(x, weight, *rest, **keywords):
        return native(x, weight * factor, *rest, **keywords)

    monkeypatch.setattr(reduce, "_run_native", run)
    assert main(["--dtype", "float16", "--op", "reduce"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    "got",
    [
        np.array([1.0, np.nan], np.float32),
        np.array([1.0, np.inf], np.float32),
        np.array([1.0, 2.1], np.float32),
        np.array([[1.0, 2.0]], np.float32),
        np.array([1.0, 2.0], np.float16),
        np.array([1.0], np.float32),
    ],
    ids=["NaN", "infinity", "error", "shape", "dtype", "length"],
)
def test_the_comparator_itself(got):
    expected = np.array([1.0, 2.0], np.float32)
    assert difference("x", Tensor(expected), Tensor(expected)).passed
    assert not difference("x", Tensor(got), Tensor(expected)).passed


def test_nan_in_the_same_place_is_agreement():
    values = np.array([np.nan, 2.0], np.float32)
    assert difference("x", Tensor(values), Tensor(values)).passed


def test_half_data_is_measured_in_its_own_last_place():
    a = Tensor([1.0, 2.0], ms.float16)
    b = Tensor([1.0, 2.0 + 2.0**-9], ms.float16)
    assert difference("x", b, a).max_ulp == pytest.approx(1.0)


def test_command_line_of_compare(capsys):
    assert main(["--op", "agent_aggregate", "--shape", "2,3,5,5", "--dtype", "float16"]) == 0
    assert "passed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--shape", "2,x"])
    assert "expected four whole numbers" in capsys.readouterr().err


def test_info_command_is_clean():
    result = subprocess.run(
        [sys.executable, "-m", "maam_ops.info"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "agent_aggregate" in result.stdout
    assert "Warning" not in result.stderr


def test_kernels_announce_themselves_when_asked():
    code = (
        "import numpy as np, maam_ops; from mindspore import Tensor;"
        "x = Tensor(np.ones((2, 3), np.float32)); maam_ops.FusedAgentAggregate(2)(x, x).asnumpy()"
    )
    environment = {**os.environ, "MAAM_OPS_VERBOSE": "1", "MAAM_OPS_ISA": "portable"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    assert "maam_ops,aggregate_forward,native:portable,2x3,float32," in result.stderr


def test_non_finite_results_can_be_made_errors():
    code = (
        "import numpy as np, maam_ops; from mindspore import Tensor;"
        "x = Tensor(np.full((2, 3), np.nan, np.float32)); maam_ops.FusedAgentAggregate(2)(x, x).asnumpy()"
    )
    environment = {**os.environ, "MAAM_OPS_CHECK_FINITE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert result.returncode != 0
    assert "G: got NaN or infinity, expected finite values" in result.stderr
