"""What a result was obtained from: a few digits that change with the sources of kernels, packages or tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".cc", ".h", ".inc", ".cpp", ".cu", ".py", ".yaml", ".json", ".toml", ".txt", ".cmake", ".sh"}


def _below(path: Path) -> list[Path]:
    """The file itself, whatever its name; of a folder the sources in it."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix in SUFFIXES]


def fingerprint(*names: str) -> str:
    """Of files and folders below the root, eight digits."""
    files = [path for name in names for path in _below(ROOT / name)]
    digest = hashlib.sha256()
    for path in sorted({path for path in files if path.is_file()}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]
