"""Runs one benchmark: gate, rounds, facts, figures; the result is plain JSON."""

from __future__ import annotations

import statistics
from typing import Any

from . import cases
from .figures import judge_shared
from .race import Crew, Race
from .sides import SIDES
from .suite import Benchmark, Profile


class Measurement:
    """A benchmark whose sides have passed the correctness gate.

    Use as a context manager, call :meth:`round` `profile.rounds` times, then :meth:`finish`.

    Raises:
        GateError: a side computes something else; there is no time then.
        SideFailed: a side could not be prepared.
    """

    def __init__(self, benchmark: Benchmark, crew: Crew, profile: Profile) -> None:
        self.benchmark, self._profile = benchmark, profile
        self._missing = {
            side: f"needs {' and '.join(SIDES[side].missing())}" for side in benchmark.sides if SIDES[side].missing()
        }
        self._crew = Crew(crew.threads) if benchmark.fresh else crew
        sides = [side for side in benchmark.sides if side not in self._missing]
        truth = benchmark.truth if benchmark.truth not in self._missing else None
        self._race = None
        if not self._missing.keys() & {benchmark.subject, benchmark.truth}:
            self._race = Race(self._crew, benchmark.case, sides, truth, benchmark.optional)
            self._missing |= self._race.left_out

    def __enter__(self) -> Measurement:
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.__exit__(None, None, None) if self.benchmark.fresh else self._crew.unload()

    @property
    def rounds(self) -> int:
        """How many rounds to run."""
        return self._profile.rounds if self.benchmark.timed and self._race else 0

    def round(self) -> float:
        """One block of every side; seconds of a call of the subject."""
        return self._race.round(self._profile.block_seconds)[self.benchmark.subject]

    def finish(self) -> dict[str, Any]:
        """The result as JSON: figures with verdicts, times of the sides, facts."""
        facts = self._facts()
        rounds = self._race.rounds if self._race else []
        figures = []
        for figure in self.benchmark.figures:
            possible = figure.without(self._missing)
            if possible is None or self._race is None:
                figures.append(figure.not_measured("; ".join(sorted(set(self._missing.values())))))
            else:
                figures.append(possible.record(rounds, facts))
        return {
            "benchmark": self.benchmark.name,
            "group": self.benchmark.group,
            "case": cases.to_json(self.benchmark.case),
            "label": self.benchmark.case.label,
            "profile": self._profile.name,
            "rounds": len(rounds),
            "block_seconds": self._profile.block_seconds,
            "disturbance": self._race.disturbance if self._race else 0.0,
            "figures": judge_shared(figures),
            "sides": self._sides(rounds),
            "left_out": self._missing,
            "facts": {f"{side}: {fact}": value for (side, fact), value in facts.items()},
        }

    def _facts(self) -> dict[tuple[str, str], float]:
        if self._race is None:
            return {}
        wanted = dict.fromkeys(fact for figure in self.benchmark.figures for fact in figure.facts)
        wanted |= dict.fromkeys(self.benchmark.facts)
        facts = {(side, fact): self._race.fact(side, fact) for side, fact in wanted if side not in self._missing}
        if "kernel" in self._race.loaded:
            facts |= {("kernel", fact): self._race.fact("kernel", fact) for fact in ("bytes_moved", "scratch_bytes")}
        return facts

    def _sides(self, rounds: list[dict[str, float]]) -> dict[str, Any]:
        """What stood for each side, and its median milliseconds."""
        traffic = self.benchmark.case.traffic
        sides = {}
        for name, loaded in (self._race.loaded if self._race else {}).items():
            row = {"description": SIDES[name].description, "form": loaded["form"], **loaded["state"]}
            row["largest_error"] = loaded["error"]
            if rounds:
                seconds = statistics.median(one[name] for one in rounds)
                row["milliseconds"] = 1e3 * seconds
                if traffic:
                    row["gigabytes_per_second"] = traffic.bytes / seconds / 1e9
                    row["gigaflops"] = traffic.flops / seconds / 1e9
            sides[name] = row
        return sides
