"""Measures each operator's kernel against its reference here, and writes the table that ``impl="auto"`` follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import MaamError
from ..files import atomic_path
from . import machine
from .cases import Operator
from .gate import GateError
from .race import Crew, Race, SideFailed
from .statistics import paired
from .suite import Profile

FILE_NAME = "tuning.json"
NATIVE, REFERENCE = "native operator", "reference operator"
# Calls that the operator itself tells apart, and batches that fall into its small, medium and large calls.
_TOLD = ("reduce", "aggregate_reduce", "maam", "maam_deep", "maam_mix", "conv_block")
_CALLS = dict.fromkeys(_TOLD, ("inference", "training")) | {"agent_block": ("training",)}
_BATCHES = {"cross_entropy": (64,), "adam": (10, 1000, 8400)}
_BATCHES |= dict.fromkeys(("maam", "maam_deep", "maam_mix", "agent_block", "conv_block"), (1, 64))


def cases() -> list[Operator]:
    """What is measured, one row of the table each."""
    return [
        Operator(op, batch, call)
        for op in Operator.SHAPES
        for call in _CALLS.get(op, ("both",))
        for batch in _BATCHES.get(op, (1, 64, 512))
    ]


def measure(
    profile: Profile, threads: int, on_case: Callable[[int, int, str], None] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Measures every row.

    Args:
        profile: how long.
        threads: CPUs and threads of both sides.
        on_case: told (position, how many, name) as each one starts.

    Returns:
        The table as JSON, and a line for each row that failed: it is missing, so that there the order of ``auto``
        holds.
    """
    from maam_ops import tuning

    rows, failures, chosen = [], [], cases()
    with Crew(threads) as crew:
        for position, case in enumerate(chosen, start=1):
            if on_case is not None:
                on_case(position, len(chosen), f"{case.op} {case.label}")
            try:
                race = Race(crew, case, [REFERENCE, NATIVE], REFERENCE)
                for _ in range(profile.rounds):
                    race.round(profile.block_seconds)
                crew.unload()
            except (GateError, SideFailed) as error:
                failures.append(f"{case.op} {case.label}: {error}")
                continue
            ratio, low, high = paired(race.rounds, lambda one: one[REFERENCE] / one[NATIVE])
            size = tuning.size_of(case.shape)
            row = {"op": case.op, "size": size, "call": case.call, "impl": tuning.path_of(ratio)}
            spread = {"ratio": ratio, "low": low, "high": high}
            rows.append(row | {name: round(value, 3) for name, value in spread.items()})
    about = machine.describe(threads)
    name = f"{about['cpu_model']}, {threads} threads, MindSpore {about['mindspore']}"
    return {"machine": name, "rows": rows}, failures


def write(table: dict[str, Any], folder: Path) -> Path:
    """Writes the table into a folder and returns the file.

    Raises:
        MaamError: the folder cannot be written to.
    """
    path = folder / FILE_NAME
    rows = ",\n".join(f"  {json.dumps(row)}" for row in table["rows"])
    text = f'{{\n "machine": {json.dumps(table["machine"])},\n "rows": [\n{rows}\n ]\n}}\n'
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise MaamError(f"bench: --out {folder}: {error.strerror or error}") from None
    return path
