"""The course of the learning rate over a run, and when a run has nothing left to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

# A rise starts at this share of the highest learning rate.
_START = 1 / 25


def rate_at(schedule: str, warmup: float, step: int, steps: int) -> float:
    """Share of the highest learning rate at `step`, 0 to `steps` - 1, of a run.

    After a linear rise over the share `warmup` of all steps: "constant" stays at 1, "cosine" falls to 0 along half a
    cosine, "one-cycle" falls to 0 along a straight line.
    """
    rise = warmup * steps
    if step < rise:
        return _START + (1 - _START) * step / rise
    if schedule == "constant":
        return 1.0
    fallen = (step - rise) / (steps - rise)
    return (1 + math.cos(math.pi * fallen)) / 2 if schedule == "cosine" else 1 - fallen


def is_flat(losses: Sequence[float], patience: int, min_improvement: float) -> bool:
    """Whether the lowest of the last `patience` losses is not the share `min_improvement` below the lowest before."""
    if patience == 0 or len(losses) <= patience:
        return False
    return min(losses[-patience:]) > (1 - min_improvement) * min(losses[:-patience])
