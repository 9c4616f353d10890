"""The runner with sides that need no framework: gate before time, failures, choice of the form, surroundings."""

import pytest

from maam.bench import cases
from maam.bench.figures import Saved, SpeedUp
from maam.bench.gate import GateError
from maam.bench.measure import Measurement
from maam.bench.race import Crew, Race, SideFailed
from maam.bench.run import measure
from maam.bench.suite import Benchmark, Profile
from tests.benchmarks.fake_sides import registered, side

CASE = cases.AggregateForward(batch=1, channels=2, agents=2, grid=2)
PROFILE = Profile("test", 3, 0.01)


@pytest.fixture
def crew():
    with Crew(threads=1) as started:
        yield started


def benchmark(slow, fast):
    return Benchmark("fake", "fakes", CASE, (SpeedUp("faster", at_least=0.0, slow=slow, fast=fast),), fast)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (side("wrong", "honest", options={"offset": 1e-3}), "'wrong': g: error"),
        (side("wrong", "honest", options={"nan": True}), "'wrong': g: error nan"),
        (side("wrong", "second_form_wrong"), "'wrong': wrong: g: error"),
    ],
    ids=["off", "nan", "second form"],
)
def test_a_red_gate_gives_no_time(crew, wrong, message):
    with registered(wrong, side("right", "honest")):
        with pytest.raises(GateError, match=message):
            Race(crew, CASE, ["right", "wrong"])
        # The side was not made ready, so that nothing can time it by mistake.
        with pytest.raises(SideFailed, match="KeyError"):
            crew.process_of("wrong").ask("block", side="wrong", seconds=0.01)
        with pytest.raises(GateError):
            measure(benchmark("right", "wrong"), crew, PROFILE)


def test_another_side_as_the_truth(crew):
    agree, off = side("a", "honest"), side("b", "honest", options={"offset": 1e-3})
    with registered(agree, off):
        assert Race(crew, CASE, ["a"], truth="a").loaded["a"]["error"] is None
        with pytest.raises(GateError, match="'b': g: error"):
            Race(crew, CASE, ["a", "b"], truth="a")


def test_rounds_hold_every_side_and_figures_come_from_them(crew):
    with (
        registered(side("forms", "two_forms"), side("plain", "honest")),
        Measurement(benchmark("plain", "forms"), crew, PROFILE) as measurement,
    ):
        seconds = [measurement.round() for _ in range(measurement.rounds)]
        result = measurement.finish()
    assert len(seconds) == result["rounds"] == PROFILE.rounds
    assert all(value > 0 for value in seconds)
    assert result["sides"]["forms"]["form"] == "quick"
    assert result["sides"]["plain"]["largest_error"] == 0.0
    (figure,) = result["figures"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert figure["verdict"] == "reached"


def test_scale_of_a_form(crew):
    """A call that sleeps 10 ms and stands for 30 is reported as no less."""
    with registered(side("slow", "scaled_sleep")):
        race = Race(crew, CASE, ["slow"])
        assert race.round(0.02)["slow"] >= 0.03


def test_failures_are_told_and_the_next_benchmark_goes_on(crew):
    with registered(side("raising", "raising"), side("dying", "dying"), side("right", "honest", process="dying")):
        with pytest.raises(SideFailed, match="this side cannot"):
            Race(crew, CASE, ["raising"])
        with pytest.raises(SideFailed, match=r"(?s)the process ended with code 3.*last words"):
            Race(crew, CASE, ["dying"])
        assert Race(crew, CASE, ["right"]).fact("right", "answer") == 42.0


def test_surroundings_of_a_side(crew, monkeypatch):
    monkeypatch.setenv("MAAM_OPS_IMPL", "reference")
    with registered(side("env", "environment", environment={"FAKE_SIDE": "7"})):
        race = Race(crew, CASE, ["env"])
        assert race.fact("env", "own") == 7.0
        assert race.fact("env", "impl") == 0.0
        assert race.fact("env", "cpus") == 1.0
        assert race.fact("env", "peak_rss_bytes") > 2**20


def test_a_side_that_cannot_run_here_is_left_out_with_the_reason(crew):
    missing = side("other", "honest", requires=("no_such_module",))
    with registered(missing, side("right", "honest")):
        result = measure(benchmark("other", "right"), crew, PROFILE)
        assert list(result["sides"]) == ["right"]
        (figure,) = result["figures"]
        assert figure["verdict"] == "not measured"
        assert figure["value"] is None
        assert figure["reason"] == "needs no_such_module"
        result = measure(benchmark("right", "other"), crew, PROFILE)
        assert result["sides"] == {}
        assert result["figures"][0]["verdict"] == "not measured"


def test_fresh_processes_do_not_outlive_their_benchmark(crew):
    answers = Saved("saved", fact="answer", side="a", baseline="b")
    facts_only = Benchmark("fake", "fakes", CASE, (answers,), "a", timed=False, fresh=True)
    with registered(side("a", "honest"), side("b", "honest")):
        result = measure(facts_only, crew, PROFILE)
    assert result["rounds"] == 0
    assert result["facts"] == {"a: answer": 42.0, "b: answer": 42.0}
    assert result["figures"][0]["value"] == 0.0
    assert crew.started == []
