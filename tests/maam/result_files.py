"""Writes what finished runs leave, without training any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import Result

from maam.config import TrainConfig
from maam.history import EpochRow, write_rows
from maam.reproduce import results as files
from maam.reproduce.worker import settings_of

from . import runs
from .command_line import maam

RUN = {
    "title": "MAAM",
    "group": "table1",
    "order": 1,
    "paper": {"accuracy": 0.87},
    "reading": "A tiny one.",
    "train": {"preset": "mlp", "overrides": {"hidden": 8}, "epochs": 2, "train_images": 96, "test_images": 40},
}
CLASSES, MARK = 4, "0123456789abcdef"


def write_runs(folder: Path, **changes: dict[str, Any]) -> Path:
    """Run files that differ from `RUN` by what is named."""
    return runs.write_runs(folder, **{name: {**RUN, **change} for name, change in changes.items()})


def write_result(
    results: Path,
    run: str = "maam",
    seed: int = 0,
    accuracy: float = 0.75,
    data: tuple[str, str] = ("cifar10", MARK),
    test_images: int = 40,
    evaluated_on: str = "test set",
    epochs: Sequence[float] | None = None,
    schedule: str = "constant",
) -> Path:
    """The three files of one finished run, of these accuracies after its `epochs`; returns their folder."""
    folder = files.folder_of(results, run, seed)
    folder.mkdir(parents=True, exist_ok=True)
    scores = dict.fromkeys(("loss", "accuracy", "macro_precision", "macro_recall", "macro_f1"), accuracy)
    rows = [
        EpochRow(epoch, 3 * epoch, 1.0, 0.5, 1.0, each, 2.0, 48.0, 0.001, "0.5 0.5").__dict__
        for epoch, each in enumerate(epochs or (accuracy, accuracy), start=1)
    ]
    write_rows(folder / files.METRICS_NAME, rows)
    summary = {
        "run": run,
        "seed": seed,
        "test": scores,
        "augmented_test": scores,
        "parameters": 1000,
        "epochs": len(rows),
        "stopped_early": False,
        "training_seconds": 4.0,
        "data": {"name": data[0], "fingerprint": data[1], "classes": [str(name) for name in range(CLASSES)]},
        "evaluated_on": evaluated_on,
        "test_images": test_images,
        "training_images": 96,
        "settings": settings_of(TrainConfig(**RUN["train"], seed=seed, schedule=schedule)),
        "machine": {"cpus": 2, "cpu_model": "a CPU", "mindspore": "2.10.0", "system": "Linux", "commit": "abc"},
    }
    confusion = np.zeros((CLASSES, CLASSES), int)
    confusion[0, 0] = test_images
    files.write(folder, summary, (folder / files.METRICS_NAME).read_text(), confusion)
    return folder


def from_results(folder: Path) -> Result:
    """`maam reproduce --from-results` on the `results` and `runs` of `folder`, into its `out`."""
    places = ("--results", folder / "results", "--runs", folder / "runs", "--out", folder / "out")
    return maam("reproduce", "--from-results", *places)
