"""Paired arithmetic: a round holds one block of every side, and only blocks of one round are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

Round = Mapping[str, float]


def paired(rounds: Sequence[Round], value: Callable[[Round], float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile over the rounds of a value computed within each round.

    Pairing cancels what changes from minute to minute on a shared machine; the median ignores a round in which only
    one side was disturbed.
    """
    values = sorted(value(one) for one in rounds)
    if not values:
        raise ValueError("maam.bench: rounds: got none, expected at least 1")
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high
