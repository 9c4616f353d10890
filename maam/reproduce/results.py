"""What a finished run leaves under `results/RUN/seedK/`: small text files, made to be committed.

result.json     scores on the test set, settings, machine, versions, commit
metrics.csv     one line for each epoch, softmax weights included
confusion.csv   test images by true class (rows) and predicted class (columns)
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import METRICS_NAME
from ..errors import MaamError
from ..files import atomic_path
from ..history import read_rows

RESULT_NAME, CONFUSION_NAME = "result.json", "confusion.csv"
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
        summary["test"]["accuracy"], summary["settings"]
        name = METRICS_NAME
        epochs = read_rows(folder / name)
        name = CONFUSION_NAME
        with (folder / name).open(newline="") as stream:
            confusion = np.array([[int(cell) for cell in row] for row in csv.reader(stream)])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MaamError(f"{folder / name}: damaged ({error}); restore it, or delete {folder} to train anew") from error
    return Result(run, seed, summary, epochs, confusion)


def read_all(results: Path, run: str) -> list[Result]:
    """All finished seeds of a run, in their order."""
    names = (re.fullmatch(r"seed(\d+)", path.name) for path in (results / run).glob("seed*"))
    seeds = sorted(int(name[1]) for name in names if name)
    found = (read(results, run, seed) for seed in seeds)
    return [result for result in found if result is not None]


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
