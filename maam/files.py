"""Files that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import MaamError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it is renamed to `path` on success and removed on any error.

    The name keeps the suffix of `path`, because MindSpore appends one to a checkpoint that lacks it.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        # Onto the disk before the old file goes: a rename can outlive a crash of the machine that the content does not.
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        # Where MindSpore writes a checkpoint before it gives it the name that was asked for.
        temporary.with_suffix(".tmp").unlink(missing_ok=True)


def check_writable(folder: Path, option: str) -> None:
    """Raise :class:`MaamError`, naming `option`, unless files can be made in `folder`.

    What is missing of it is made for that and removed again: a command that fails later leaves nothing behind.
    """
    missing: list[Path] = []
    try:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MaamError(
            f"{option} {folder}: got {error.strerror}, expected a folder to write to; name another"
        ) from error
    finally:
        for part in missing:
            with suppress(OSError):
                part.rmdir()


def remove_unfinished(folder: Path) -> None:
    """Remove what :func:`atomic_path` left in `folder` when its process was killed; no other may be at work there."""
    for path in folder.glob(".*.[0-9]*.*"):
        path.unlink(missing_ok=True)
