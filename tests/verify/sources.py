"""What a result was obtained from: a few digits that change with the sources of kernels, packages or tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".cc", ".h", ".inc", ".cpp", ".cu", ".py", ".yaml", ".json", ".toml", ".txt"}


def fingerprint(*names: str) -> str:
    """Of files and folders below the root, eight digits."""
    files = [path for name in names for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.suffix in SUFFIXES]
    digest = hashlib.sha256()
    for path in sorted({path for path in files if path.is_file()}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]
