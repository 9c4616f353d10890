"""Writes small folders in the two official CIFAR-10 layouts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

BATCHES = (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch")


def make_batches(records: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random (pixels uint8 (records, 3072), labels uint8 (records,)) for each of the six files."""
    rng = np.random.default_rng(3)
    return {
        name: (rng.integers(0, 256, (records, 3072), np.uint8), rng.integers(0, 10, records).astype(np.uint8))
        for name in BATCHES
    }


def write_binary(folder: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches.items():
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], pixels], axis=1).tobytes())
    return folder


def write_python(folder: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]], protocol: int) -> Path:
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches.items():
        entry = {b"batch_label": name.encode(), b"labels": labels.tolist(), b"data": pixels, b"filenames": [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(entry, protocol=protocol))
    return folder
