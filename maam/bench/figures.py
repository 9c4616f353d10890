"""The judged figures: what is computed from the blocks of a race, and the goal it is held against."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .statistics import Round, paired

# (side, fact) -> value
Facts = Mapping[tuple[str, str], float]

NEVER_SLOWER = 0.97
BY_ANOTHER = "reached by another"


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        name: what is compared with what.
        at_least, at_most: the goal; without one the figure only informs.
        shared: figures of a benchmark with the same word here have one goal, and one that reaches it does for all.
    """

    name: str
    at_least: float | None = None
    at_most: float | None = None
    shared: str = ""
    unit: ClassVar[str] = ""

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides that must have been measured."""
        raise NotImplementedError

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """(side, fact) pairs that must be known."""
        return ()

    def without(self, missing: Collection[str]) -> Figure | None:
        """The figure when these sides cannot be measured; None where it needs one of them."""
        return None if set(self.sides) & set(missing) else self

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        """Median, lower and upper quartile."""
        raise NotImplementedError

    def record(self, rounds: Sequence[Round], facts: Facts) -> dict[str, Any]:
        """The figure as JSON, judged."""
        middle, low, high = self.value(rounds, facts)
        return {**self._head(), "value": middle, "low": low, "high": high, "verdict": self._verdict(middle)}

    def not_measured(self, reason: str) -> dict[str, Any]:
        """The line of a figure that has no value here."""
        return {**self._head(), "value": None, "verdict": "not measured", "reason": reason}

    def _head(self) -> dict[str, Any]:
        head = {"name": self.name, "unit": self.unit, "at_least": self.at_least, "at_most": self.at_most}
        return {**head, "shared": self.shared} if self.shared else head

    def _verdict(self, value: float) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        reached = value >= self.at_least if self.at_least is not None else value <= self.at_most
        return "reached" if reached else "missed"


def judge_shared(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of a benchmark's figures, none missed that shares a goal with one that reached it."""
    reached = {record["shared"] for record in records if "shared" in record and record["verdict"] == "reached"}
    return [
        {**record, "verdict": BY_ANOTHER}
        if record["verdict"] == "missed" and record.get("shared") in reached
        else record
        for record in records
    ]


@dataclass(frozen=True)
class SpeedUp(Figure):
    """How many times faster `fast` is than `slow`."""

    slow: str = ""
    fast: str = ""
    unit = "x"

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.slow, self.fast)

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        return paired(rounds, lambda one: one[self.slow] / one[self.fast])


@dataclass(frozen=True)
class AgainstBest(Figure):
    """How many times faster `fast` is than the fastest of `others`; those that cannot be measured are left out."""

    fast: str = ""
    others: tuple[str, ...] = ()
    unit = "x"

    @property
    def sides(self) -> tuple[str, ...]:
        return (*self.others, self.fast)

    def without(self, missing: Collection[str]) -> Figure | None:
        others = tuple(side for side in self.others if side not in missing)
        return None if self.fast in missing or not others else replace(self, others=others)

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        best = self._best(rounds)
        return paired(rounds, lambda one: one[best] / one[self.fast])

    def record(self, rounds: Sequence[Round], facts: Facts) -> dict[str, Any]:
        best = self._best(rounds)
        return {**super().record(rounds, facts), "name": f"{self.name}: {best}", "against": best}

    def _best(self, rounds: Sequence[Round]) -> str:
        return min(self.others, key=lambda side: statistics.median(one[side] for one in rounds))


@dataclass(frozen=True)
class NotBuilt(Figure):
    """A goal for something that does not exist yet; `others` are timed all the same."""

    others: tuple[str, ...] = ()
    reason: str = ""
    unit = "x"

    @property
    def sides(self) -> tuple[str, ...]:
        return self.others

    def without(self, missing: Collection[str]) -> Figure:
        return self

    def record(self, rounds: Sequence[Round], facts: Facts) -> dict[str, Any]:
        return self.not_measured(self.reason)


@dataclass(frozen=True)
class CeilingShare(Figure):
    """The time the machine's limits allow - the largest of them, if several - over the time `of` takes."""

    of: str = "kernel"
    limits: tuple[str, ...] = ("bandwidth",)
    unit = "%"

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.of, *self.limits)

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        return paired(rounds, lambda one: max(one[limit] for limit in self.limits) / one[self.of])


@dataclass(frozen=True)
class Overhead(Figure):
    """Milliseconds that `of` takes longer than `over`."""

    of: str = "fused"
    over: str = "kernel"
    unit = "ms"

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.of, self.over)

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        return paired(rounds, lambda one: 1e3 * (one[self.of] - one[self.over]))


@dataclass(frozen=True)
class AmdahlBound(Figure):
    """Speed-up of `whole` if `part` of it took no time at all: what no replacement of that part can exceed."""

    whole: str = ""
    part: str = ""
    unit = "x"

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.whole, self.part)

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        return paired(rounds, lambda one: one[self.whole] / (one[self.whole] - one[self.part]))


@dataclass(frozen=True)
class Saved(Figure):
    """The part of a fact that `side` saves against `baseline`."""

    fact: str = ""
    side: str = ""
    baseline: str = ""
    unit = "%"

    @property
    def sides(self) -> tuple[str, ...]:
        return (self.side, self.baseline)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        return ((self.side, self.fact), (self.baseline, self.fact))

    def value(self, rounds: Sequence[Round], facts: Facts) -> tuple[float, float, float]:
        saved = 1 - facts[self.side, self.fact] / facts[self.baseline, self.fact]
        return saved, saved, saved
