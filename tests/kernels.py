"""How tests reach the native kernels: in this process, or in one of its own. MindSpore is not needed for either.

``MAAM_OPS_TEST_RUNNER`` names a command, such as ``build/address/maam_ops_runner --place=heap``: every test of the
kernels then runs through it, under a sanitizer, between guard pages, or on an emulated CPU.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

COMMAND = os.environ.get("MAAM_OPS_TEST_RUNNER", "")


class KernelFault(AssertionError):
    """A kernel did what ends a process, or wrote to an input; the text says what and where."""


class Runner:
    """``maam_ops._core`` by way of tests/verify/runner: the same functions, in another process."""

    class Error(ValueError):
        """What a kernel said."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._settings: dict[str, str] = {}

    def launch(
        self,
        function: str,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        dtypes: Sequence[str],
        repeats: int = 1,
        updated: Sequence[int] = (),
    ) -> None:
        lines = [f"launch {function} {len(inputs)} {len(outputs)} {repeats}"]
        for i, (array, dtype) in enumerate(zip([*inputs, *outputs], dtypes, strict=True)):
            lines.append(" ".join(map(str, (dtype, int(i in updated), array.itemsize, array.ndim, *array.shape))))
        answer = self._ask("\n".join(lines), b"".join(np.ascontiguousarray(array).tobytes() for array in inputs))
        at = 0
        for array in [*(inputs[i] for i in updated), *outputs]:
            array[...] = np.frombuffer(answer, array.dtype, array.size, at).reshape(array.shape)
            at += array.nbytes

    def functions(self) -> list[str]:
        return self._ask("functions").decode().split()

    def kernels(self) -> list[tuple[str, str, bool]]:
        rows = (line.split() for line in self._ask("kernels").decode().splitlines())
        return [(kernel, isa, runnable == "1") for kernel, isa, runnable in rows]

    def counters(self) -> dict[str, dict[str, int]]:
        rows = (line.split() for line in self._ask("counters").decode().splitlines())
        names = ("calls", "bytes_moved", "scratch_bytes")
        return {name: dict(zip(names, map(int, values), strict=True)) for name, *values in rows}

    def reset_counters(self) -> None:
        self._ask("reset_counters")

    def detected_isa(self) -> str:
        return self._ask("detected_isa").decode()

    def active_isa(self) -> str:
        return self._ask("active_isa").decode()

    def cap_isa(self, name: str) -> None:
        self._set("cap_isa", name)

    def num_threads(self) -> int:
        return int(self._ask("num_threads"))

    def set_num_threads(self, n: int) -> None:
        self._set("set_num_threads", str(n))

    def heap_bytes(self) -> int:
        """Bytes in use on the heap of the process."""
        return int(self._ask("heap_bytes"))

    def close(self) -> None:
        """End the process; what it says at its end, such as a leak, is raised."""
        if self._process is None:
            return
        _, code, said = self._process.stdin.close(), self._process.wait(), self._said()
        self._process = None
        if code != 0:
            raise KernelFault(f"the runner ended with {code}: {said}")

    def _set(self, command: str, value: str) -> None:
        self._ask(f"{command} {value}")
        self._settings[command] = value

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )
        for command, value in self._settings.items():
            self._exchange(f"{command} {value}", b"")

    def _said(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()[-4000:]

    def _ask(self, request: str, data: bytes = b"") -> bytes:
        with self._lock:
            if self._process is None:
                self._start()
            return self._exchange(request, data)

    def _exchange(self, request: str, data: bytes) -> bytes:
        process = self._process
        try:
            process.stdin.write(request.encode() + b"\n" + data)
            process.stdin.flush()
            kind, size = process.stdout.readline().split()
            answer = process.stdout.read(int(size))
        except (BrokenPipeError, ValueError):
            code = process.wait()
            self._process = None
            raise KernelFault(f"the runner ended with {code}: {self._said()}") from None
        if kind == b"fault":
            raise KernelFault(answer.decode())
        if kind == b"error":
            raise self.Error(answer.decode())
        return answer


def in_this_process() -> ModuleType:
    """The extension module beside maam_ops, without an import of the package, which needs MindSpore."""
    if "maam_ops._core" in sys.modules:
        return sys.modules["maam_ops._core"]
    package = Path(importlib.util.find_spec("maam_ops").origin).parent
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    path = next((path for suffix in suffixes if (path := package / f"_core{suffix}").exists()), None)
    if path is None:
        pytest.skip("the native kernels are not built", allow_module_level=True)
    spec = importlib.util.spec_from_file_location("maam_ops._core", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


core = Runner(shlex.split(COMMAND)) if COMMAND else in_this_process()
needs_this_process = pytest.mark.skipif(bool(COMMAND), reason="is about the process that calls the kernels")
