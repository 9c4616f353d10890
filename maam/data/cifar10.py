"""CIFAR-10 readers for the official binary and python layouts, with every byte accounted for."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from ..errors import MaamError
from . import safe_pickle
from .images import ImageData, ImageSet

RECORDS_PER_FILE = 10_000
IMAGE_SHAPE = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32
CROP_PADDING = 4
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BINARY_FOLDER, _PYTHON_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"


def load_cifar10(folder: str | Path, records_per_file: int = RECORDS_PER_FILE) -> ImageData:
    """Read and check all six batch files of a CIFAR-10 folder.

    Args:
        folder: the folder with the batch files, or the one above it. Both official layouts are recognised:
            binary (`data_batch_1.bin` ... `test_batch.bin`) and python (`data_batch_1` ... `test_batch`).
        records_per_file: images a batch file must hold; the official files hold 10,000.

    Raises:
        MaamError: a missing, truncated or overlong file, a label outside 0..9, or a python batch that is
            damaged or names anything but plain data. The message names the file, what was got and what was expected.
    """
    root, binary = _find_layout(Path(folder))
    suffix, read = (".bin", _read_binary) if binary else ("", _read_python)
    batches = [read(root / f"data_batch_{index}{suffix}", records_per_file) for index in range(1, 6)]
    train = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    test = read(root / f"test_batch{suffix}", records_per_file)
    return ImageData("cifar10", *(ImageSet(*split, CLASSES, CROP_PADDING, flip=True) for split in (train, test)))


def _find_layout(folder: Path) -> tuple[Path, bool]:
    """(folder that holds the batch files, whether their layout is binary)."""
    if not folder.is_dir():
        kind = "a file; unpack the archive first" if folder.exists() else "no such folder"
        raise MaamError(f"data folder {folder}: got {kind}, expected a folder with the CIFAR-10 batch files")
    for root in (folder, folder / _BINARY_FOLDER, folder / _PYTHON_FOLDER):
        for suffix in (".bin", ""):
            names = ["test_batch" + suffix, *(f"data_batch_{index}{suffix}" for index in range(1, 6))]
            if any((root / name).is_file() for name in names):
                return root, suffix == ".bin"
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
    raise MaamError(
        f"data folder {folder}: got {found}, expected data_batch_1.bin ... test_batch.bin (binary layout) or "
        "data_batch_1 ... test_batch (python layout)"
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MaamError(f"{path}: got no such file, expected all of data_batch_1 ... 5 and test_batch") from None
    except OSError as error:
        raise MaamError(f"{path}: cannot be read: {error.strerror}") from error


def _read_binary(path: Path, records: int) -> tuple[np.ndarray, np.ndarray]:
    raw = _read_bytes(path)
    expected = records * (1 + IMAGE_BYTES)
    if len(raw) != expected:
        raise MaamError(
            f"{path}: got {len(raw)} bytes, expected {expected} ({records} records of {1 + IMAGE_BYTES} bytes); "
            "the file is truncated or not CIFAR-10, fetch it again"
        )
    table = np.frombuffer(raw, dtype=np.uint8).reshape(records, 1 + IMAGE_BYTES)
    return table[:, 1:].reshape(records, *IMAGE_SHAPE), _checked_labels(path, table[:, 0])


def _read_python(path: Path, records: int) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise MaamError(f"{path}: got no such file, expected all of data_batch_1 ... 5 and test_batch")
    try:
        with path.open("rb") as stream:
            batch = safe_pickle.load(stream)
    except OSError as error:
        raise MaamError(f"{path}: cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise MaamError(f"{path}: refused or damaged ({error}); expected an official CIFAR-10 python batch") from error
    if not isinstance(batch, dict):
        raise MaamError(f"{path}: got a pickled {type(batch).__name__}, expected a dict with 'data' and 'labels'")
    entries = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    return _checked_images(path, entries.get("data"), records), _python_labels(path, entries.get("labels"), records)


def _checked_images(path: Path, data: object, records: int) -> np.ndarray:
    shape = (records, IMAGE_BYTES)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != shape:
        got = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise MaamError(f"{path}: 'data' is {got}, expected uint8 {shape}")
    return np.ascontiguousarray(data).reshape(records, *IMAGE_SHAPE)


def _python_labels(path: Path, labels: object, records: int) -> np.ndarray:
    if isinstance(labels, list) and not all(type(label) is int for label in labels):
        raise MaamError(f"{path}: 'labels' holds entries that are not integers, expected {records} integers 0 to 9")
    if not isinstance(labels, list | np.ndarray) or np.shape(labels) != (records,):
        got = f"shape {np.shape(labels)}" if isinstance(labels, list | np.ndarray) else type(labels).__name__
        raise MaamError(f"{path}: 'labels' is {got}, expected {records} integers 0 to 9")
    return _checked_labels(path, np.asarray(labels, dtype=object))


def _checked_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))
    if wrong.size:
        raise MaamError(f"{path}: record {wrong[0]} has label {labels[wrong[0]]}, expected 0 to {len(CLASSES) - 1}")
    return labels.astype(np.int32)
