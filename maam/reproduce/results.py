"""What a finished run leaves under `results/RUN/seedK/`: small text files, made to be committed.

result.json     scores on the test set, settings, machine, versions, commit
metrics.csv     one line for each epoch, softmax weights included
confusion.csv   test images by true class (rows) and predicted class (columns)
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import METRICS_NAME
from ..errors import MaamError
from ..files import atomic_path
from ..history import EpochRow, read_rows
from .settings import SCORES
from .shape import check

RESULT_NAME, CONFUSION_NAME = "result.json", "confusion.csv"
# What a report takes from result.json.
_SUMMARY = {
    **dict.fromkeys(("test", "augmented_test"), dict.fromkeys(SCORES, float)),
    **dict.fromkeys(("parameters", "epochs", "test_images"), int),
    "training_seconds": float,
    "data": {"name": str, "fingerprint": str, "classes": list},
    "evaluated_on": str,
    "settings": dict,
    "machine": {"cpus": int, "cpu_model": str, "mindspore": str, "system": str, "commit": str},
}
# One in so many of a run's epochs, the last ones, tell where it settled.
SETTLED_PART = 5
# Data whose accuracies need a word of warning, by fingerprint.
NOTES = {
    "daf094e0b08f3e2b": "Real CIFAR-10 images, official labels and order, but pixels that went once through JPEG "
    "(30.5 dB PSNR): accuracies can differ a little from those on the official files.",
}


class DataMark(NamedTuple):
    """Which images: results of two are never averaged or compared."""

    name: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name} {self.fingerprint}"


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        run, seed: which.
        summary: content of `result.json`.
        epochs: lines of `metrics.csv`.
        confusion: int (classes, classes).
    """

    run: str
    seed: int
    summary: Mapping[str, Any]
    epochs: list[dict[str, Any]]
    confusion: np.ndarray

    @property
    def scores(self) -> Mapping[str, float]:
        return self.summary["test"]

    @property
    def settled(self) -> float:
        """Test accuracy, 0 to 1, by which runs of ours are compared with each other: no epoch is picked by its outcome.

        At a constant learning rate the mean over the last fifth of the epochs: it varies by more from epoch to epoch
        (± 1.5 points with the paper's recipe) than from seed to seed. With a schedule that ends at zero, the last.
        """
        if self.summary["settings"].get("schedule") != "constant":
            return self.scores["accuracy"]
        last = self.epochs[-max(len(self.epochs) // SETTLED_PART, 1) :]
        return statistics.fmean(row["test_accuracy"] for row in last)

    @property
    def data(self) -> DataMark:
        """The images it was obtained on."""
        return DataMark(self.summary["data"]["name"], self.summary["data"]["fingerprint"])


def folder_of(results: Path, run: str, seed: int) -> Path:
    return results / run / f"seed{seed}"


def write(folder: Path, summary: Mapping[str, Any], metrics: str, confusion: np.ndarray) -> None:
    """Write the three files; `result.json`, which says that the run is finished, comes last."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(confusion.tolist())
    files = ((METRICS_NAME, metrics), (CONFUSION_NAME, text.getvalue()), (RESULT_NAME, _json(summary)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files:
            with atomic_path(folder / name) as temporary:
                temporary.write_text(content)
    except OSError as error:
        raise MaamError(f"results {folder}: cannot be written: {error.strerror}; the trained model is kept") from error


def read(results: Path, run: str, seed: int) -> Result | None:
    """A finished run, or None where there is none.

    Raises:
        MaamError: its files are damaged; the message names the file.
    """
    folder = folder_of(results, run, seed)
    if not (folder / RESULT_NAME).is_file():
        return None
    name = RESULT_NAME
    try:
        summary = json.loads((folder / name).read_text())
        _check_summary(summary)
        name = METRICS_NAME
        epochs = read_rows(folder / name)
        _check_epochs(epochs, summary["epochs"])
        name = CONFUSION_NAME
        with (folder / name).open(newline="") as stream:
            confusion = np.array([[int(cell) for cell in row] for row in csv.reader(stream)])
        _check_confusion(confusion, len(summary["data"]["classes"]), summary["test_images"])
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MaamError(f"{folder / name}: damaged ({error}); restore it, or delete {folder} to train anew") from error
    return Result(run, seed, summary, epochs, confusion)


def _check_summary(summary: Any) -> None:
    check(summary, _SUMMARY)
    for test in ("test", "augmented_test"):
        for name in SCORES:
            if not 0 <= summary[test][name] <= 1:
                raise ValueError(f"{name} of {test} is {summary[test][name]!r}, expected 0 to 1")
    classes = summary["data"]["classes"]
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"classes is {classes!r}, expected names")


def _check_epochs(epochs: list[dict[str, Any]], expected: int) -> None:
    if len(epochs) != expected or not epochs:
        raise ValueError(f"got {len(epochs)} epochs, expected {max(expected, 1)}")
    columns = {field.name: str if field.name == "mix_weights" else float for field in fields(EpochRow)}
    for number, row in enumerate(epochs, start=1):
        check(row, columns, f"epoch {number}")
        weights = len(epochs[0]["mix_weights"].split())
        if [math.isfinite(float(part)) for part in row["mix_weights"].split()] != [True] * weights:
            raise ValueError(f"mix_weights of epoch {number} is {row['mix_weights']!r}, expected {weights} numbers")


def _check_confusion(confusion: np.ndarray, classes: int, images: int) -> None:
    if confusion.shape != (classes, classes):
        raise ValueError(f"got an array of shape {confusion.shape}, expected {classes} x {classes}")
    if confusion.min() < 0 or confusion.sum() != images:
        raise ValueError(f"got counts that sum to {confusion.sum()}, expected those of {images} test images")


def read_all(results: Path, run: str) -> list[Result]:
    """All finished seeds of a run, in their order."""
    names = (re.fullmatch(r"seed(\d+)", path.name) for path in (results / run).glob("seed*"))
    seeds = sorted(int(name[1]) for name in names if name)
    found = (read(results, run, seed) for seed in seeds)
    return [result for result in found if result is not None]


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
