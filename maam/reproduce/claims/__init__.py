"""The paper's other claims, measured in minutes: ``maam reproduce claims`` writes `claims.json` into the results.

Times come from the paired measurement of :mod:`maam.bench`: every side in a process of its own, behind a check that it
computes the same losses, in alternating blocks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...bench.machine import describe
from ...errors import MaamError
from ...files import atomic_path
from .figures import Figures, measure, parameters
from .judge import Claim, judge

CLAIMS_NAME = "claims.json"
THREADS = 2

__all__ = ["CLAIMS_NAME", "Claim", "Figures", "judge", "measure_all", "read"]


def read(results: Path) -> tuple[Figures, dict[str, Any]] | None:
    """The figures, and the machine that those of :func:`measure_all` are from; None where there are none.

    Raises:
        MaamError: the file is damaged.
    """
    path = results / CLAIMS_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        return Figures(**{**content["figures"], "parameters": parameters()}), content["machine"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MaamError(f"{path}: damaged ({error}); restore it, or delete it and run maam reproduce claims") from error


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
    claims = judge(figures)
    measured = {name: value for name, value in asdict(figures).items() if name != "parameters"}
    content = {"figures": measured, "machine": describe(THREADS)}
    try:
        results.mkdir(parents=True, exist_ok=True)
        with atomic_path(results / CLAIMS_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise MaamError(f"results {results}: cannot be written: {error.strerror}") from error
    for claim in claims:
        echo(f"{claim.claim}\n    {claim.measured}\n    {claim.holds}")
    return claims
