"""Tiny runs for `maam reproduce`, and how they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from maam.config import METRICS_NAME
from maam.history import read_rows

from .conftest import PATIENCE

TRAIN = {"epochs": 3, "batch_size": 32, "train_images": 96, "test_images": 40}
MAAM = {
    "title": "MAAM",
    "group": "table1",
    "order": 1,
    "paper": {"accuracy": 0.87},
    "reading": "A tiny one.",
    "train": {
        **TRAIN,
        "preset": "authors",
        "overrides": {"channels": 4, "reduce_channels": 6, "hidden": 16, "pool": 4},
        "schedule": "one-cycle",
        "ema": 0.9,
    },
}
# Goes on for seconds after its first epoch: an interruption meets it.
LONG = {**MAAM, "train": {**MAAM["train"], "epochs": 12, "train_images": 1600}}
MLP = {
    "title": "MLP",
    "group": "variants",
    "order": 1,
    "of": "maam",
    "reading": "Another model, which stops early.",
    "train": {**TRAIN, "preset": "mlp", "overrides": {"hidden": 8}, "patience": 1, "min_improvement": 0.9},
}


def write_runs(folder: Path, **runs: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(run))
    return folder


def command(data: Path | None, folder: Path, runs: Path, *arguments: object) -> list[str]:
    """The arguments of `maam` for a run in `folder`."""
    places = ["--out", folder / "out", "--results", folder / "results", "--runs", runs, "--seeds", "1"]
    named = [] if data is None else ["--data", data]
    return [str(part) for part in ("reproduce", "variants", *places, *named, *arguments)]


def start(arguments: list[str], folder: Path, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "from maam.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        **options,
    )


def finish(arguments: list[str], folder: Path, **options: object) -> tuple[int, str, str]:
    process = start(arguments, folder, **options)
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def figures_of(results: Path, run: str) -> list[dict]:
    """Per epoch, what does not depend on the clock."""
    rows = read_rows(results / run / "seed0" / METRICS_NAME)
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]
