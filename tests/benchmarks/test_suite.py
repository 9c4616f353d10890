"""The benchmarks fit together, the real sides pass their gates, and both doors work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maam.bench import cases, report
from maam.bench.peers import stored
from maam.bench.peers.rows import PREDICTORS, REDUCED
from maam.bench.race import Crew, Race
from maam.bench.sides import SIDES, Side, register
from maam.bench.suite import PROFILES, SUITE, select
from maam.cli.app import app
from maam.data import load_data
from maam_ops import _native

ROOT = Path(__file__).parents[2]
native = pytest.mark.skipif(_native.missing_reason(()) is not None, reason="the native kernels are not built")


def test_names_are_unique_and_sides_known():
    names = [benchmark.name for benchmark in SUITE]
    assert len(set(names)) == len(names)
    for benchmark in SUITE:
        assert set(benchmark.sides) <= SIDES.keys(), benchmark.name
        assert benchmark.truth is None or benchmark.truth in benchmark.sides, benchmark.name
        oracle = type(benchmark.case).expected
        without = oracle in (cases.Model.expected, cases.BranchTraining.expected)
        assert (benchmark.truth is not None) == without, benchmark.name
        if "bandwidth" in benchmark.sides:
            assert benchmark.case.traffic.size % 1024 == 0, benchmark.name


def test_profiles():
    full, quick = select(PROFILES["full"]), select(PROFILES["quick"])
    assert full == list(SUITE)
    assert set(quick) < set(full)
    assert [one.name for one in select(PROFILES["full"], ["step 64", "PYNATIVE"])] == [
        "aggregate forward PYNATIVE",
        "aggregate backward PYNATIVE",
        "model step 64",
        "model step 64, graph kernel",
    ]


def test_a_side_is_registered_once():
    with pytest.raises(ValueError, match="'kernel' is registered already"):
        register(Side("kernel", "", ""))


@native
def test_real_sides_pass_their_gates():
    kernel_sides = ["kernel", "bandwidth", "fused", "unfused"]
    with Crew(threads=2) as crew:
        for case, sides in (
            (cases.AggregateBackward(2, 32, 3, 4), kernel_sides),
            (cases.AggregateReduceInference(2, 32, 64, 4), [*kernel_sides, "two kernels", "fma"]),
            (cases.AggregateReduceTraining(2, 6, 5, 3), ["fused", "unfused"]),
            (cases.OptimizerStep("l2", 1003), ["native operator", "reference operator"]),
            (cases.OptimizerStep("decoupled", 1003), ["native operator", "reference operator"]),
        ):
            race = Race(crew, case, sides)
            times = race.round(0.001)
            assert times.keys() == set(sides)
            assert all(seconds > 0 for seconds in times.values())
            for side in sides:
                assert (race.loaded[side]["error"] is not None) == SIDES[side].gated
            crew.unload()


@native
def test_model_sides_agree_and_know_their_kernels():
    sides = ["fused model", "unfused model"]
    with Crew(threads=2) as crew:
        step = Race(crew, cases.ModelStep(2), sides, truth="unfused model")
        assert step.loaded["fused model"]["error"] > 0
        inference = Race(crew, cases.ModelInference(2), sides, truth="unfused model")
        assert inference.fact("fused model", "kernels") < inference.fact("unfused model", "kernels")


@native
def test_a_branch_by_its_kernels_agrees_with_its_layers():
    with Crew(threads=2) as crew:
        race = Race(crew, cases.BranchTraining(5, 2), ["native operator", "reference operator"], "reference operator")
        assert race.loaded["native operator"]["error"] > 0


@native
def test_the_int8_side_is_within_its_tolerance():
    case = cases.ModelInferenceInt8(2)
    with Crew(threads=2) as crew:
        race = Race(crew, case, ["int8 model", "fused model"], truth="fused model")
        assert 0 < race.loaded["int8 model"]["error"] <= case.tolerance[""]


@native
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_the_predictor_computes_what_its_model_does(precision, tmp_path):
    stored.write(tmp_path / "arrays.npz", "authors", load_data(None), 2)
    case = cases.StoredInference(2, "authors", str(tmp_path / "arrays.npz"), precision)
    ours = REDUCED[precision]
    with Crew(threads=2) as crew:
        race = Race(crew, case, [ours, PREDICTORS[precision]], truth=ours)
        assert race.loaded[PREDICTORS[precision]]["error"] == 0


@native
def test_pytest_door_and_report_of_its_json(tmp_path):
    command = [sys.executable, "-m", "pytest", str(ROOT / "benchmarks"), "-q", "-p", "no:cacheprovider"]
    command += ["--benchmark-only", f"--benchmark-json={tmp_path / 'x.json'}", "--report", str(tmp_path / "report")]
    command += ["-k", "test_aggregate and forward and 1x8"]
    # pytest-benchmark measures nothing in what looks like a worker of pytest-xdist.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faster than the unfused graph" in done.stdout
    assert (tmp_path / "report" / "benchmarks.md").exists()
    (row,) = json.loads((tmp_path / "x.json").read_text())["benchmarks"]
    assert row["stats"]["rounds"] == PROFILES["quick"].rounds
    # The clock of pytest-benchmark is the subject's: seconds of one call, not of the driver's round.
    fused = row["extra_info"]["sides"]["fused"]["milliseconds"]
    assert row["stats"]["median"] * 1e3 == pytest.approx(fused, rel=1e-6)
    result = CliRunner().invoke(app, ["bench", "--report", str(tmp_path / "x.json"), "--out", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    written = report.read(tmp_path / "again" / "benchmarks.json")
    assert report.rows(written)[0]["benchmark"] == "aggregate forward 1x8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nonsense"], "--only: got nonsense"),
        (["--threads", "4096"], "--threads: got 4096"),
        (["--report", "nowhere.json"], "nowhere.json"),
    ],
)
def test_command_line_names_what_is_wrong(arguments, message):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in result.output
