"""The correctness gate: a side that computes something else gets no time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_PIECE = 65536


class GateError(Exception):
    """A side's results are not those of the case."""


def check(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: Mapping[str, float]) -> float:
    """The largest error of all results, relative to the largest magnitude of each.

    Args:
        got: a side's results; those that `expected` does not name are ignored.
        expected: what they should be.
        tolerance: largest error allowed by name of the result, "" for all others.

    Raises:
        GateError: a result is missing, has another shape, holds NaN or infinity in other places, or is further off.
    """
    worst = 0.0
    for name, truth in expected.items():
        if name not in got:
            raise GateError(f"{name}: missing")
        error = _relative_error(name, np.asarray(got[name]), np.asarray(truth))
        allowed = tolerance.get(name, tolerance[""])
        # Written so that a NaN fails.
        if not error <= allowed:
            raise GateError(f"{name}: error {error:.2e} of the largest magnitude, at most {allowed:.0e} is allowed")
        worst = max(worst, error)
    return worst


def _relative_error(name: str, got: np.ndarray, truth: np.ndarray) -> float:
    if got.shape != truth.shape:
        raise GateError(f"{name}: got shape {got.shape}, expected {truth.shape}")
    if truth.size == 0:
        return 0.0
    largest = error = 0.0
    got, truth = got.reshape(-1), truth.reshape(-1)
    # Piece by piece: whole-array temporaries of the largest cases would take longer than the benchmark.
    for start in range(0, truth.size, _PIECE):
        piece = truth[start : start + _PIECE]
        largest = max(largest, float(np.abs(piece).max()))
        # np.maximum keeps a NaN, which Python's max() would drop.
        error = float(np.maximum(error, np.abs(got[start : start + _PIECE] - piece).max()))
    return error / largest if largest > 0 else error
