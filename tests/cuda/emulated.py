"""The CUDA kernels on the host: built by g++ against the emulator, and their entry points called on NumPy arrays."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.cuda.entry import Signature
from tests.maam_ops.arrays import Array

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"
EMULATOR = HERE / "emulator"
ORDERS = (0, 1, 7)  # of the threads of a block: ascending, descending, shuffled
_MESSAGE_BYTES = 2048


class KernelFault(Exception):
    """What the emulator found, or what an entry point threw."""


def compiler() -> str | None:
    """The C++ compiler the tests use, or None."""
    return os.environ.get("CXX") or shutil.which("g++")


def sources(csrc: Path = CSRC) -> list[Path]:
    """What the CUDA library is built of and a host compiler can compile: kernels, drivers and entry points."""
    kernels = sorted(csrc.glob("*/cuda*.cu"))
    entries = sorted({path.with_name("aot.cc") for path in kernels})
    core = [csrc / "core" / name for name in ("aot.cc", "isa.cc", "trace.cc")]
    return [*kernels, *entries, *core, *sorted((csrc / "core" / "cuda").glob("*.cc"))]


def build(csrc: Path = CSRC) -> ctypes.CDLL:
    """The library of all operators, object by object from a cache keyed by the content of every source."""
    command = [compiler(), "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-ffp-contract=off"]
    # GCC 12 warns about its own std::string (GCC bug 105651); a pragma that unrolls loops is nvcc's.
    command += ["-Wno-restrict", "-Wno-unknown-pragmas", f"-I{EMULATOR}", f"-I{csrc}"]
    headers = [*csrc.rglob("*.h"), *EMULATOR.rglob("*.h")]
    common = hashlib.sha256(" ".join(command[:-2]).encode())
    for header in sorted(headers, key=lambda path: (path.name, str(path.relative_to(path.parents[1])))):
        common.update(header.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"maam_ops_cuda_emulator_{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    pending, objects = [], []
    for source in [*sources(csrc), EMULATOR / "emulator.cc"]:
        digest = common.copy()
        digest.update(source.read_bytes())
        objects.append(cache / f"{digest.hexdigest()[:24]}.o")
        if not objects[-1].exists():
            beside = objects[-1].with_suffix(f".{os.getpid()}")
            run = subprocess.Popen([*command, "-x", "c++", "-c", str(source), "-o", str(beside)])
            pending.append((run, beside, objects[-1]))
    for run, beside, target in pending:
        if run.wait() != 0:
            raise RuntimeError(f"the emulated build failed: {' '.join(run.args)}")
        beside.replace(target)
    library = cache / f"{hashlib.sha256(''.join(o.name for o in objects).encode()).hexdigest()[:24]}.so"
    if not library.exists():
        beside = library.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler(), "-shared", *map(str, objects), "-o", str(beside)], check=True)
        beside.replace(library)
    return ctypes.CDLL(str(library))


class Emulated:
    """Runs entry points on emulated blocks and threads; for ``arrays.launching``."""

    name = "emulated"

    def __init__(self, library: ctypes.CDLL | None = None) -> None:
        self.library = library or build()
        self.order = ORDERS[0]

    def __call__(self, function: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        arrays = [*inputs, *outputs]
        signature = Signature(
            [a.data.shape for a in arrays], [a.dtype for a in arrays], [a.data.ctypes.data for a in arrays]
        )
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        status = self.library.EmulatedCall(
            function.encode(),
            signature.count,
            len(inputs),
            signature.params,
            signature.ndims,
            signature.shapes,
            signature.dtypes,
            self.order,
            message,
            ctypes.c_int64(_MESSAGE_BYTES),
        )
        if status != 0:
            raise KernelFault(message.value.decode())
