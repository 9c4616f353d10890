"""What a run remembers between steps and writes down after each epoch."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import MaamError
from .files import atomic_path


@dataclass(frozen=True)
class EpochRow:
    """One line of `metrics.csv`; training figures are over the augmented images, as they were seen.

    `mix_weights` are the softmax weights of the branches, separated by spaces, where the model has such.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    images_per_second: float
    learning_rate: float = 0.0
    mix_weights: str = ""


@dataclass
class Progress:
    """What the loop must remember between steps, apart from the parameters."""

    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """The finished epochs as CSV.

    Raises:
        MaamError: it could not be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(EpochRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text.getvalue())
    except OSError as error:
        raise MaamError(
            f"metrics {path}: cannot be written ({error.strerror}); the checkpoint beside it holds the same rows. Free "
            "some space, or move away what is in its place, and resume"
        ) from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What :func:`write_rows` wrote, numbers as numbers."""
    with path.open(newline="") as stream:
        return [
            {name: text if name == "mix_weights" else float(text) for name, text in row.items()}
            for row in csv.DictReader(stream)
        ]
