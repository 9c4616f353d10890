"""The pytest-benchmark door to the suite of `maam.bench`.

A round of pytest-benchmark is one block of every side; its time is that of one call of the benchmark's subject. What
is judged - ratios of blocks of one round - is in `extra_info`, and in the report at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maam.bench import machine, report
from maam.bench.measure import Measurement
from maam.bench.race import Crew
from maam.bench.run import describe, entry
from maam.bench.suite import PROFILES, Benchmark, Profile, select


class _SubjectTime:
    """A clock that runs only for the subject: in the driver's own time the other sides and the pipes would count."""

    seconds = 0.0


_RESULTS: list[dict[str, Any]] = []


def subject_clock() -> float:
    return _SubjectTime.seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("maam benchmarks")
    group.addoption("--profile", choices=sorted(PROFILES), default="quick", help="how long to measure")
    group.addoption("--threads", type=int, default=2, help="CPUs and threads of every side")
    group.addoption("--report", type=Path, default=Path("out/bench"), help="folder for table and plots")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`spec` takes the benchmarks of the profile whose name begins as the test's: test_reduce gets "reduce ..."."""
    if "spec" in metafunc.fixturenames:
        prefix = metafunc.function.__name__.removeprefix("test_") + " "
        profile = PROFILES[metafunc.config.getoption("profile")]
        specs = [spec for spec in select(profile) if spec.name.startswith(prefix)]
        metafunc.parametrize("spec", specs, ids=[spec.name.removeprefix(prefix) for spec in specs])


@pytest.fixture(scope="session")
def profile(request: pytest.FixtureRequest) -> Profile:
    return PROFILES[request.config.getoption("profile")]


@pytest.fixture(scope="session")
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    with Crew(request.config.getoption("threads")) as started:
        yield started


@pytest.fixture
def measure(benchmark: Any, crew: Crew, profile: Profile) -> Callable[[Benchmark], None]:
    """Gate, rounds under pytest-benchmark, figures into `extra_info`; a wrong result fails before any time."""

    def run(spec: Benchmark) -> None:
        benchmark.group = spec.group
        with Measurement(spec, crew, profile) as measurement:
            if measurement.rounds:

                def one_round() -> None:
                    _SubjectTime.seconds += measurement.round()

                benchmark.pedantic(one_round, rounds=measurement.rounds)
                benchmark.extra_info.update(measurement.finish())
            else:
                # Facts only: the time shown is that of finding them out.
                def find_out() -> dict[str, Any]:
                    began = time.perf_counter()
                    found = measurement.finish()
                    _SubjectTime.seconds += time.perf_counter() - began
                    return found

                benchmark.extra_info.update(benchmark.pedantic(find_out))
        _RESULTS.append(entry(spec, benchmark.extra_info))

    return run


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info.update(machine.describe(config.getoption("threads")))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not _RESULTS:
        return
    data = {**describe(config.getoption("threads")), "benchmarks": _RESULTS}
    paths = report.write(data, config.getoption("report"))
    terminalreporter.section("maam bench")
    terminalreporter.write_line(report.summary(data))
    terminalreporter.write_line("wrote " + ", ".join(map(str, paths)))
