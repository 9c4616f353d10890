"""Ascend C kernels on the host: builds them against the emulator and calls them on NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
EMULATOR = HERE / "emulator"
SHARED = CSRC / "core" / "ascend" / "op_kernel"
UB_BYTES = 192 * 1024
CORES = 40  # vector cores of a 910B3
MAX_CORES = 64
DTYPE_CODES = {"float32": 0, "float16": 1, "bfloat16": 27}  # ge::DataType
STORAGE_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SMALLEST_STEP = {"float32": 1.5e-45, "float16": 2.0**-24, "bfloat16": 1e-40}
FLOAT32_EPSILON = 2.0**-23


class KernelFault(Exception):
    """The emulator found a fault; the text says which core and what."""


class Report(ctypes.Structure):
    _fields_ = (
        ("cores", ctypes.c_uint64),
        ("ub_bytes", ctypes.c_uint64),
        ("gm_read", ctypes.c_uint64 * MAX_CORES),
        ("gm_written", ctypes.c_uint64 * MAX_CORES),
        ("error", ctypes.c_char * 512),
    )


def compiler() -> str | None:
    """The C++ compiler the tests use, or None."""
    return os.environ.get("CXX") or shutil.which("g++")


def build(harness: str, ascend_folder: Path) -> ctypes.CDLL:
    """The harness compiled with an operator's Ascend folder, from a cache keyed by the content of every source."""
    sources = [
        HERE / harness,
        *sorted(EMULATOR.rglob("*.h")),
        *sorted(p for p in ascend_folder.rglob("*") if p.is_file()),
    ]
    # Ascend C is compiled as C++17, so the kernels must be; no warning is let through.
    command = [compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    digest = hashlib.sha256(" ".join(command).encode())
    for source in [*sources, *sorted(SHARED.iterdir()), CSRC / "core" / "dtype.h"]:
        digest.update(source.name.encode() + source.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"maam_ops_emulator_{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    library = cache / f"{digest.hexdigest()[:24]}.so"
    if not library.exists():
        beside = cache / f"{library.name}.{os.getpid()}"
        includes = [f"-I{folder}" for folder in (ascend_folder, EMULATOR, SHARED, CSRC)]
        subprocess.run([*command, *includes, str(HERE / harness), "-o", str(beside)], check=True)
        beside.replace(library)
    return ctypes.CDLL(str(library))


@dataclass(frozen=True)
class Fault:
    """A statement (or an expression) of a kernel and what stands there instead while the fault is planted."""

    name: str
    file: str
    old: str
    new: str
    found: str  # what the emulator, or the comparison with the oracle, must say
    is_expression: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def plant(faults: Sequence[Fault], folder: Path, copy: Path) -> None:
    """Copies an operator's sources with every fault in them, asleep: fault i is active while `planted_fault` is i.

    One library then serves all faults, where a build for each would take most of the tests' time.
    """
    shutil.copytree(folder, copy)
    for header in SHARED.iterdir():  # found before the original, as it lies beside what includes it
        shutil.copy(header, copy / "op_kernel")
    for number, fault in enumerate(faults):
        path = copy / fault.file
        source = path.read_text()
        assert source.count(fault.old) == 1, f"{fault.name}: the fault no longer fits {fault.file}"
        if fault.is_expression:
            both = f"(planted_fault == {number} ? ({fault.new}) : ({fault.old}))"
        else:
            both = f"if (planted_fault == {number}) {{ {fault.new} }} else {{ {fault.old} }}"
        path.write_text(source.replace(fault.old, both))
    for path in copy.glob("op_kernel/*.h"):
        path.write_text(path.read_text().replace("#pragma once", "#pragma once\nextern int planted_fault;", 1))


def wake(library: ctypes.CDLL, number: int) -> None:
    """Makes fault `number` the active one; -1 for none."""
    ctypes.c_int.in_dll(library, "planted_fault").value = number


def to_bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Float values rounded to `dtype`; bfloat16 as uint16, which NumPy lacks."""
    if dtype != "bfloat16":
        return np.ascontiguousarray(values, dtype=dtype)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_float64(stored: np.ndarray, dtype: str) -> np.ndarray:
    """What `to_bits` stored, exactly."""
    if dtype != "bfloat16":
        return stored.astype(np.float64)
    return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def poisoned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An output buffer of NaN: an element nobody writes cannot pass for a result."""
    width = np.uint32 if dtype == "float32" else np.uint16
    bits = np.full(shape, np.iinfo(width).max, dtype=width)
    return bits if dtype == "bfloat16" else bits.view(dtype)


def pointer(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data


@dataclass
class Moved:
    """What the emulator counted in one launch."""

    cores: int
    ub_bytes: int
    read: np.ndarray  # bytes of global memory, for each core
    written: np.ndarray


def checked(status: int, report: Report) -> Moved:
    if status != 0:
        raise KernelFault(report.error.decode())
    cores = report.cores
    return Moved(cores, report.ub_bytes, np.array(report.gm_read[:cores]), np.array(report.gm_written[:cores]))
