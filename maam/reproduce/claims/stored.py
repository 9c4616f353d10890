"""`claims.json`: the figures, and the machine they were measured on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...errors import MaamError
from ...files import atomic_path
from ..shape import check
from .figures import RACES, Figures, parameters

CLAIMS_NAME = "claims.json"
_MACHINE = {"cpus": int, "cpu_model": str, "mindspore": str, "commit": str}
_FIGURES = dict.fromkeys(("kernels", "seconds", "ratios", "quartiles", "failed"), dict)


def write(results: Path, figures: Figures, machine: dict[str, Any]) -> None:
    """Write the measured figures to `results`."""
    measured = {name: value for name, value in asdict(figures).items() if name in _FIGURES}
    try:
        results.mkdir(parents=True, exist_ok=True)
        with atomic_path(results / CLAIMS_NAME) as temporary:
            temporary.write_text(json.dumps({"figures": measured, "machine": machine}, indent=2) + "\n")
    except OSError as error:
        raise MaamError(f"results {results}: cannot be written: {error.strerror}") from error


def read(results: Path) -> tuple[Figures, dict[str, Any]] | None:
    """What :func:`write` wrote, and the parameters of today; None where there is nothing.

    Raises:
        MaamError: the file is damaged.
    """
    path = results / CLAIMS_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        check(content, {"figures": _FIGURES, "machine": _MACHINE})
        figures = Figures(**{name: content["figures"][name] for name in _FIGURES})
        _check_races(figures)
    except (OSError, ValueError, RecursionError) as error:
        raise MaamError(f"{path}: damaged ({error}); restore it, or delete it and run maam reproduce claims") from error
    figures.parameters = parameters()
    return figures, content["machine"]


def _check_races(figures: Figures) -> None:
    """Raise ValueError unless every race that was run has the figures of all its sides."""
    check(figures.failed, dict.fromkeys(figures.failed, str), "failed")
    for race in figures.seconds:
        if race not in RACES:
            raise ValueError(f"seconds has the race {race!r}, expected some of {', '.join(RACES)}")
        sides = [side.removeprefix("claims: ") for side in RACES[race][1]]
        # The first side is what the others are compared with.
        tables = {"seconds": sides, "ratios": sides[1:], "quartiles": sides[1:]}
        if race in ("step", "inference"):
            tables["kernels"] = sides
        for name, entries in tables.items():
            table = getattr(figures, name)
            check(table, {race: dict.fromkeys(entries, list if name == "quartiles" else float)}, name)
            for side in entries:
                values = table[race][side] if name == "quartiles" else [table[race][side]]
                if name == "quartiles" and len(values) != 2:
                    raise ValueError(f"quartiles of {race!r}, {side!r} are {values!r}, expected two numbers")
                for value in values:
                    check(value, float, f"{name} of {race!r}, {side!r}")
                    if value <= 0:
                        raise ValueError(f"{name} of {race!r}, {side!r} is {value!r}, expected a number above 0")
