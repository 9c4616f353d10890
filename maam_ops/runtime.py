"""Fast MindSpore convolutions on AVX-512 CPUs.

The oneDNN 3 that MindSpore ships has no AVX-512 kernel for plain NCHW convolutions and answers them with its
reference loops; the AVX2 kernels are 10 to 90 times faster for the 3x3 convolutions of small image nets, at the
price of a MatMul that takes up to twice as long. :func:`tune`, called when ``maam_ops`` is imported, caps that one
library at AVX2 through its C API. Neither the environment nor any other copy of oneDNN in the process is touched:
``ONEDNN_MAX_CPU_ISA`` would also slow down PyTorch and every child process. MindSpore 2.7 and 2.8 have oneDNN 2, whose
AVX-512 kernels are as fast as its others, and is left alone.

Environment, read once by :func:`tune`:

=================== =========================================================================================
``MAAM_OPS_TUNE``   ``0`` leaves MindSpore's oneDNN alone; default ``1``
``MAAM_OPS_QUIET``  ``1`` says nothing; default ``0``. The lines go to the logger ``maam_ops``, level WARNING
=================== =========================================================================================

An ``ONEDNN_MAX_CPU_ISA`` or ``DNNL_MAX_CPU_ISA`` set by the user is respected.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import platform
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

State = Literal["not_run", "capped", "off", "user", "not_needed", "too_late", "unavailable"]

_LOGGER = logging.getLogger("maam_ops")
_LIBRARY, _OLDER_LIBRARY = "libdnnl.so.3", "libdnnl.so.2"
# dnnl_cpu_isa_t and dnnl_status_t of oneDNN's dnnl_types.h, unchanged since 2.0. The ISA values are bit sets.
_ISA_AVX2 = 0x7
_SUCCESS = 0
_INVALID_ARGUMENTS = 2
_AVX512_CORE_FLAGS = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_SWITCH = {"": None, "0": False, "off": False, "false": False, "1": True, "on": True, "true": True}


@dataclass(frozen=True)
class RuntimeStatus:
    """What :func:`tune` did to MindSpore's oneDNN.

    Attributes:
        state: ``"capped"`` - AVX2 kernels are used; ``"off"`` - switched off by ``MAAM_OPS_TUNE=0``; ``"user"`` - the
            user's own ``ONEDNN_MAX_CPU_ISA`` rules; ``"not_needed"`` - no AVX-512 here, or oneDNN 2;
            ``"too_late"`` - MindSpore had chosen its kernels already; ``"unavailable"`` - the library cannot be
            reached; ``"not_run"`` - :func:`tune` was not called.
        detail: one line for people; for ``"too_late"`` and ``"unavailable"`` it says what to do.
        library: the oneDNN in question, or None where none was looked for.
    """

    state: State
    detail: str
    library: Path | None = None


_lock = threading.Lock()
_status = RuntimeStatus("not_run", "maam_ops.runtime.tune() has not been called")


def status() -> RuntimeStatus:
    """Returns what the first :func:`tune` of this process did."""
    return _status


def tune() -> RuntimeStatus:
    """Caps MindSpore's own oneDNN at AVX2 where that makes convolutions faster. Later calls change nothing.

    Must run before MindSpore's first CPU convolution, MatMul or pooling: oneDNN fixes its instruction set then.

    Returns:
        RuntimeStatus: the outcome, also given by :func:`status`.

    Raises:
        ValueError: ``MAAM_OPS_TUNE`` or ``MAAM_OPS_QUIET`` is set to something that is not a switch.
    """
    global _status
    with _lock:
        if _status.state == "not_run":
            quiet = _switch("MAAM_OPS_QUIET", default=False)
            _status = _cap_onednn()
            # Spawned data workers import the package again; the user has read the line already.
            if _status.state in ("capped", "too_late", "unavailable") and not (
                quiet or multiprocessing.parent_process()
            ):
                _LOGGER.warning("maam_ops: %s", _status.detail)
        return _status


def _switch(name: str, default: bool) -> bool:
    value = os.environ.get(name, "")
    try:
        choice = _SWITCH[value.strip().lower()]
    except KeyError:
        raise ValueError(f"environment variable {name}: got {value!r}, expected 0 or 1") from None
    return default if choice is None else choice


def _cap_onednn() -> RuntimeStatus:
    if not _switch("MAAM_OPS_TUNE", default=True):
        return RuntimeStatus("off", "MindSpore's oneDNN left alone: MAAM_OPS_TUNE=0")
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        if os.environ.get(name):
            return RuntimeStatus("user", f"MindSpore's oneDNN left alone: {name}={os.environ[name]}")
    if not _has_avx512():
        return RuntimeStatus("not_needed", "MindSpore's oneDNN left alone: this CPU has no AVX-512")
    path = _onednn_path()
    if not path.exists() and path.with_name(_OLDER_LIBRARY).exists():
        return RuntimeStatus("not_needed", "MindSpore's oneDNN left alone: version 2 has fast AVX-512 convolutions")
    try:
        library = _open_onednn(path)
        cap = library.dnnl_set_max_cpu_isa
    except (OSError, AttributeError) as error:
        return RuntimeStatus(
            "unavailable",
            f"cannot cap MindSpore's oneDNN at AVX2 ({error}): its convolutions may be 10 times slower than they "
            "could be; start Python with ONEDNN_MAX_CPU_ISA=AVX2, or set MAAM_OPS_TUNE=0 to silence this",
            path,
        )
    return _outcome(library, cap(_ISA_AVX2), path)


def _outcome(library: ctypes.CDLL, code: int, path: Path) -> RuntimeStatus:
    if code == _SUCCESS:
        return RuntimeStatus(
            "capped",
            "MindSpore's oneDNN capped at AVX2 for this process: much faster convolutions on this AVX-512 CPU "
            "(MAAM_OPS_TUNE=0 leaves it alone, MAAM_OPS_QUIET=1 hides this line)",
            path,
        )
    # The query itself fixes oneDNN's choice, so it may only be asked once capping has been refused.
    if code == _INVALID_ARGUMENTS and not library.dnnl_get_effective_cpu_isa() & ~_ISA_AVX2:
        return RuntimeStatus("capped", "MindSpore's oneDNN was capped at AVX2 or below before maam_ops", path)
    if code == _INVALID_ARGUMENTS:
        return RuntimeStatus(
            "too_late",
            "MindSpore has already chosen its AVX-512 kernels, so its convolutions stay slow: import maam_ops before "
            "the first MindSpore operator runs, or start Python with ONEDNN_MAX_CPU_ISA=AVX2",
            path,
        )
    return RuntimeStatus(
        "unavailable",
        f"MindSpore's oneDNN refuses an instruction set cap (status {code}): convolutions may be slow on this CPU",
        path,
    )


def _has_avx512() -> bool:
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("flags"):
                return set(line.partition(":")[2].split()) >= _AVX512_CORE_FLAGS
    return False


def _onednn_path() -> Path:
    spec = find_spec("mindspore")
    if spec is None or spec.origin is None:
        raise ImportError("maam_ops.runtime.tune: mindspore is not installed; install mindspore>=2.7.2,<2.11")
    return Path(spec.origin).resolve().parent / "lib" / _LIBRARY


def _open_onednn(path: Path) -> ctypes.CDLL:
    """Opens the very instance MindSpore's kernels are bound to.

    Raises:
        OSError: MindSpore uses, or would use, somebody else's oneDNN: ELF resolves the name ``libdnnl.so.3`` to
            whichever copy is in the process first.
    """
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LOCAL)
    except OSError:
        pass
    try:
        ctypes.CDLL(_LIBRARY, mode=os.RTLD_NOLOAD | os.RTLD_LOCAL)
    except OSError:
        return ctypes.CDLL(str(path), mode=os.RTLD_LOCAL)
    raise OSError(f"another {_LIBRARY} was loaded before MindSpore's and is shared with it")
