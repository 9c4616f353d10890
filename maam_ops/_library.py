"""One compiled library of kernels: what it runs on, where it is and what it has."""

from __future__ import annotations

import ctypes
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Library:
    """The kernels for one of MindSpore's device targets.

    Attributes:
        target: the device target.
        description: what the kernels are, for the reports.
        path: the shared library.
        how_to_build: what to do where it is missing.
        entry_points: those of some names that it lacks; raises ImportError where it cannot be loaded.
        on_missing: the reason, for an operator whose entry points it lacks.
    """

    target: str
    description: str
    path: Path
    how_to_build: str
    entry_points: Callable[[Collection[str]], list[str]]
    on_missing: str

    def missing_reason(self, symbols: Collection[str]) -> str | None:
        """Why these entry points cannot be used, or None where they can."""
        if not self.path.exists():
            return f"{self.path.name} is missing: {self.how_to_build}"
        try:
            missing = self.entry_points(symbols)
        except (ImportError, OSError) as error:
            return str(error)
        return f"{self.path.name} lacks {', '.join(missing)}: {self.on_missing}" if missing else None


def check_not_open(path: Path) -> None:
    """Raise ImportError where every user of the machine may write the file."""
    if path.stat().st_mode & stat.S_IWOTH:
        raise ImportError(f"{path} can be written by every user of this machine: chmod o-w {path}")


def exported(path: Path) -> Callable[[Collection[str]], list[str]]:
    """Looks entry points up among the library's exported symbols."""

    def missing(symbols: Collection[str]) -> list[str]:
        check_not_open(path)
        library = ctypes.CDLL(str(path))
        return sorted(name for name in symbols if not hasattr(library, name))

    return missing
