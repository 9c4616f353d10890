"""The paper's other claims, measured in minutes: ``maam reproduce claims`` writes `claims.json` into the results.

Times come from the paired measurement of :mod:`maam.bench`: every side in a process of its own, behind a check that it
computes the same losses, in alternating blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...bench.machine import describe
from . import stored
from .figures import Figures, measure
from .judge import Claim, judge
from .stored import CLAIMS_NAME, read

THREADS = 2

__all__ = ["CLAIMS_NAME", "Claim", "Figures", "judge", "measure_all", "read"]


def measure_all(
    results: Path, echo: Callable[[str], None], stop: Callable[[], bool], torch_python: Path | None = None
) -> list[Claim]:
    """Measure everything and write it to `results`; returns the claims, which the report judges by it.

    Args:
        results: folder for `claims.json`.
        echo: told what is going on.
        stop: asked between measurements; ends with KeyboardInterrupt, and nothing is written.
        torch_python: interpreter of an environment with PyTorch, where this one has none.
    """
    figures = measure(THREADS, echo, stop, torch_python)
    stored.write(results, figures, describe(THREADS))
    claims = judge(figures)
    for claim in claims:
        echo(f"{claim.claim}\n    {claim.measured}\n    {claim.holds}")
    return claims
