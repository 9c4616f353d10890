"""The paired measurement: blocks of all sides alternate, each in its own process, while the others sleep."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import MaamError
from . import cases
from .cases import Case
from .gate import GateError
from .sides import SIDES, Side

# Longest silence of a side: the slowest step is a compile followed by calls of some seconds each.
ANSWER_SECONDS = 600
LOG_LINES = 20
# Sleeping sides may use this part of the CPU time: the end of what the call before left to other threads.
DISTURBED = 0.05
# Set by a user for other purposes, these would change what is measured.
_DROPPED = ("MAAM_OPS_IMPL", "MAAM_OPS_VERBOSE", "MAAM_OPS_CHECK_FINITE", "MAAM_OPS_NUM_THREADS", "OMP_NUM_THREADS")


class SideFailed(MaamError):
    """A side's process ended or could not do what it was asked."""


class SideProcess:
    """The driver's end of a worker.

    Args:
        name: for messages.
        side: decides interpreter and environment.
        threads: CPUs the process may use, the same for all sides.
    """

    def __init__(self, name: str, side: Side, threads: int) -> None:
        self._name = name
        self._unread = b""
        # MindSpore leaves files behind where it runs.
        self._folder = tempfile.TemporaryDirectory(prefix="maam_bench_")
        self._log = Path(self._folder.name) / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [side.python or sys.executable, "-m", "maam.bench.worker", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder.name,
                env=_environment(side),
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request, one answer; errors as for :meth:`receive`."""
        self.send(do, **arguments)
        return self.receive()

    def send(self, do: str, **arguments: Any) -> None:
        """A request; each must be followed by one :meth:`receive`, in the same order."""
        # A process that is gone says so when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The answer to the oldest request that has none yet.

        Raises:
            GateError: the side computes something else than the case.
            SideFailed: it raised, ended, or did not answer in time.
        """
        line = self._line(ANSWER_SECONDS)
        if line is None:
            self._process.kill()  # its answer must not be taken for that of a later request
            raise self._failed(f"no answer in {ANSWER_SECONDS} s")
        if not line:
            self._process.wait()
            raise self._failed(f"the process ended with code {self._process.returncode}")
        answer = json.loads(line)
        if "red" in answer:
            raise GateError(f"side {self._name!r}: {answer['red']}")
        if "failed" in answer:
            raise SideFailed(f"bench: side {self._name!r}: {answer['failed']}")
        return answer

    def _line(self, seconds: float) -> bytes | None:
        """The next line, b"" at the end of the stream, None if neither comes in time."""
        end = time.monotonic() + seconds
        # Not readline(): for what it has read ahead, select() would wait in vain.
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                return b""
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _failed(self, what: str) -> SideFailed:
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        return SideFailed(f"bench: side {self._name!r}: {what}\n{tail}")

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def cpu_seconds(self) -> float:
        """CPU time the process has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def _environment(side: Side) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    environment |= {"MAAM_OPS_QUIET": "1", "GLOG_v": "3"}
    if side.python is None:
        # Modules come from the same places as ours, wherever the process runs.
        paths = [os.path.abspath(entry) for entry in sys.path]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if os.path.exists(path))
    else:
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return environment | dict(side.environment)


class Crew:
    """The processes of all sides; started when first needed and kept for the next case.

    Args:
        threads: CPUs and threads of every side.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._processes: dict[str, SideProcess] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    @property
    def started(self) -> list[str]:
        """Names of the processes that were started."""
        return list(self._processes)

    def process_of(self, name: str) -> SideProcess:
        """The process of a side, started if need be."""
        side = SIDES[name]
        key = side.process or name
        if key in self._processes and self._processes[key].ended:
            self._processes.pop(key).close()
        if key not in self._processes:
            self._processes[key] = SideProcess(key, side, self.threads)
        return self._processes[key]

    def others(self, name: str) -> list[SideProcess]:
        """All processes but that of this side."""
        own = self.process_of(name)
        return [process for process in self._processes.values() if process is not own]

    def unload(self) -> None:
        """Frees the memory of the case that was measured."""
        for process in self._processes.values():
            process.ask("unload")


class Race:
    """Sides ready to be timed on one case: all have passed the gate, or the constructor raises.

    Args:
        crew: processes to use.
        case: the work.
        sides: names of the sides.
        truth: the side whose results the others must give, where the case has no oracle; it must be among `sides`.
        optional: sides without which the race goes on.

    Attributes:
        left_out: optional sides that compute something else or could not be prepared, with the reason.
        rounds: seconds by side, for each round so far.
        loaded: what each side answered: the form that stands for it, its error, its state.

    Raises:
        GateError: a side computes something else; there is no time then.
        SideFailed: a side could not be prepared.
    """

    def __init__(
        self, crew: Crew, case: Case, sides: Sequence[str], truth: str | None = None, optional: Collection[str] = ()
    ) -> None:
        self._crew, self._sides, self._optional = crew, list(sides), frozenset(optional)
        self.left_out: dict[str, str] = {}
        self.case = case
        self.rounds: list[dict[str, float]] = []
        self._busy = self._others_busy = 0.0
        with tempfile.TemporaryDirectory(prefix="maam_bench_truth_") as folder:
            self.loaded = self._load(Path(folder) / "expected.npz", truth)

    def _load(self, expected: Path, truth: str | None) -> dict[str, Mapping[str, Any]]:
        loaded: dict[str, dict[str, Any]] = {}
        if truth is None:
            np.savez(expected, **self.case.expected(self.case.inputs()))
        else:
            loaded |= self._load_sides([truth], save=str(expected))
        others = [side for side in self._sides if side != truth]
        loaded |= self._load_sides([side for side in others if SIDES[side].gated], expected=str(expected))
        loaded |= self._load_sides([side for side in others if not SIDES[side].gated])
        self._sides = [side for side in self._sides if side not in self.left_out]
        # One after the other: here the forms of a side are timed.
        return {side: loaded[side] | self._crew.process_of(side).ask("choose", side=side) for side in self._sides}

    def _load_sides(
        self, names: Sequence[str], expected: str | None = None, save: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """All at once, for most of a compile is waiting; the first error is raised when every answer is there."""
        case = cases.to_json(self.case)
        processes = [self._crew.process_of(name) for name in names]
        for name, process in zip(names, processes, strict=True):
            process.send("load", side=asdict(SIDES[name]), case=case, expected=expected, save=save)
        answers, errors = {}, []
        for name, process in zip(names, processes, strict=True):
            try:
                answers[name] = process.receive()
            except (GateError, SideFailed) as error:
                if name in self._optional:
                    self.left_out[name] = str(error).strip().splitlines()[-1]
                else:
                    errors.append(error)
        if errors:
            raise errors[0]
        return answers

    def round(self, seconds: float) -> dict[str, float]:
        """One block of about so many seconds on each side; returns and keeps the seconds of a call of each."""
        times = {}
        for side in self._sides:
            process, others = self._crew.process_of(side), self._crew.others(side)
            own_before, others_before = process.cpu_seconds(), sum(other.cpu_seconds() for other in others)
            times[side] = process.ask("block", side=side, seconds=seconds)["seconds"]
            self._busy += process.cpu_seconds() - own_before
            self._others_busy += sum(other.cpu_seconds() for other in others) - others_before
        self.rounds.append(times)
        return times

    @property
    def disturbance(self) -> float:
        """CPU time that sleeping sides used, over that of the sides being timed; above DISTURBED it is a problem."""
        return self._others_busy / self._busy if self._busy else 0.0

    def fact(self, side: str, name: str) -> float:
        """Something else than time, see the sides' `facts`."""
        return self._crew.process_of(side).ask("fact", side=side, name=name)["value"]
