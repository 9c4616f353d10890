"""The whole suite from Python: what `maam bench` runs."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import MaamError
from . import machine
from .gate import GateError
from .measure import Measurement
from .race import Crew, SideFailed
from .suite import SUITE, Benchmark, Profile, select


def run(
    profile: Profile,
    only: Sequence[str] = (),
    threads: int = 2,
    on_benchmark: Callable[[int, int, Benchmark], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Measures the suite.

    Args:
        profile: how long.
        only: parts of names; a benchmark that contains none of them is left out.
        threads: CPUs and threads of every side.
        on_benchmark: told (position, how many, benchmark) as each one starts.

    Returns:
        The results, shaped as pytest-benchmark's JSON, and a line for each benchmark that failed: one whose results
        were wrong has no time, and the rest go on.

    Raises:
        MaamError: no benchmark is called so.
    """
    chosen = select(profile, only)
    if not chosen:
        names = ", ".join(benchmark.name for benchmark in SUITE)
        raise MaamError(
            f"bench: --only: got {', '.join(only)}, expected part of a name in profile {profile.name}: {names}"
        )
    about = describe(threads)
    results, failures = [], []
    with Crew(threads) as crew:
        for position, benchmark in enumerate(chosen, start=1):
            if on_benchmark is not None:
                on_benchmark(position, len(chosen), benchmark)
            try:
                results.append(entry(benchmark, measure(benchmark, crew, profile)))
            except (GateError, SideFailed) as error:
                failures.append(f"{benchmark.name}: {error}")
    return {**about, "benchmarks": results}, failures


def describe(threads: int) -> dict[str, Any]:
    """Where and when: what results hold besides the benchmarks."""
    return {
        "machine_info": machine.describe(threads),
        "datetime": datetime.datetime.now(datetime.timezone.utc).isoformat(),
    }


def entry(benchmark: Benchmark, result: dict[str, Any]) -> dict[str, Any]:
    """A result in the place that pytest-benchmark's JSON gives it."""
    return {"name": benchmark.name, "group": benchmark.group, "extra_info": result}


def measure(benchmark: Benchmark, crew: Crew, profile: Profile) -> dict[str, Any]:
    """One benchmark from gate to figures; errors as for :class:`Measurement`."""
    with Measurement(benchmark, crew, profile) as measurement:
        for _ in range(measurement.rounds):
            measurement.round()
        return measurement.finish()
