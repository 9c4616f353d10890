"""All rows, then our kernels: what `maam bench --peers` runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...data import load_data
from ...errors import MaamError
from ..gate import GateError
from ..race import Crew, SideFailed
from ..run import describe, entry, measure
from ..suite import Profile
from . import kernels, stored
from .rows import BATCHES, PEERS, PRESETS, SIDES, rows


def run(
    profile: Profile,
    data: Path | None = None,
    only: Sequence[str] = (),
    threads: int = 2,
    on_row: Callable[[int, int, str], None] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Measures the peers.

    Args:
        profile: how long.
        data: CIFAR-10 folder; None takes the embedded images.
        only: parts of names; a row that contains none of them is left out.
        threads: CPUs and threads of every side.
        on_row: told (position, how many, name) as each one starts.

    Returns:
        The results, shaped as those of :func:`maam.bench.run.run`, with the data's name and our kernels by preset, and
        a line for each row that failed.

    Raises:
        MaamError: no row is called so, or the data cannot be read.
    """
    chosen = [row for row in rows({}) if not only or any(text in row.name for text in only)]
    if not chosen:
        names = ", ".join(row.name for row in rows({}))
        raise MaamError(f"bench: --only: got {', '.join(only)}, expected part of a name: {names}")
    images = load_data(data)
    results: dict[str, Any] = {**describe(threads), "data": images.name, "peers": _peers(), "kernels": {}}
    results["benchmarks"] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="maam_bench_peers_") as folder:
        files = {preset: str(Path(folder) / f"{preset}.npz") for preset in PRESETS}
        presets = [preset for preset in PRESETS if any(row.case.preset == preset for row in chosen)]
        for preset in presets:
            stored.write(Path(files[preset]), preset, images, max(BATCHES))
        wanted = {row.name for row in chosen}
        chosen = [row for row in rows(files) if row.name in wanted]
        with Crew(threads) as crew:
            for position, row in enumerate(chosen, start=1):
                if on_row is not None:
                    on_row(position, len(chosen), row.name)
                try:
                    results["benchmarks"].append(entry(row, measure(row, crew, profile)))
                except (GateError, SideFailed) as error:
                    failures.append(f"{row.name}: {error}")
        for preset in presets:
            try:
                results["kernels"][preset] = kernels.measure(threads, Path(files[preset]), preset)
            except MaamError as error:
                failures.append(str(error))
    return results, failures


def _peers() -> dict[str, str]:
    """What each peer runs under, or why it takes no part."""
    about = {}
    for peer in PEERS:
        missing = SIDES[peer].missing()
        about[peer] = f"needs {' and '.join(missing)}" if missing else SIDES[peer].python or "this Python"
    return about
