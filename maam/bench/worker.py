"""The process of one side: prepares a case, passes the correctness gate, times blocks when told, sleeps in between.

``python -m maam.bench.worker THREADS`` answers one JSON object a line on standard output for each on standard input.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from . import cases, gate
from .cases import Arrays, Case
from .sides import Candidate, Prepared, Side

RUN_OFF_ROUNDS, RUN_OFF_SECONDS = 5, 0.02
MIN_CALLS = 3
_FRAMEWORKS = ("onnxruntime", "openvino", "nncf", "torch")


class Worker:
    """Holds the sides of one process that take part in the current case."""

    def __init__(self) -> None:
        self._case: Case | None = None
        self._inputs: Arrays = {}
        self._prepared: dict[str, Prepared] = {}
        self._chosen: dict[str, Candidate] = {}

    def load(self, side: dict[str, Any], case: dict[str, Any], expected: str | None, save: str | None) -> dict:
        """Prepares a side and checks every form of it against `expected`.

        Args:
            side: fields of the Side.
            case: the case as JSON.
            expected: .npz of the true results; None skips the check.
            save: write the results there: they are the truth for the other sides.
        """
        case = cases.from_json(case)
        if case != self._case:
            self.unload()
            self._case, self._inputs = case, case.inputs()
        loaded = Side(**side)
        prepared = loaded.load(case, self._inputs)
        truth = None if expected is None else _read_arrays(expected)
        error = None if truth is None else 0.0
        for name, candidate in prepared.candidates.items():
            results = (candidate.verify or candidate.run)()
            if truth is not None:
                error = max(error, _check(name, results, truth, case.tolerance))
            if save is not None:
                np.savez(save, **results)
        self._prepared[loaded.name] = prepared
        return {"error": error, "state": _state()}

    def choose(self, side: str) -> dict[str, Any]:
        """Lets the fastest form of a loaded side stand for it."""
        candidates = self._prepared[side].candidates
        winner = _run_off(candidates)
        self._chosen[side] = candidates[winner]
        return {"form": winner}

    def block(self, side: str, seconds: float) -> dict[str, float]:
        """Median seconds of a call, over calls that take `seconds` together; the first call is not counted."""
        candidate = self._chosen[side]
        candidate.run()  # what the other sides evicted comes back
        calls = _timed_calls(candidate.run, seconds, MIN_CALLS)
        return {"seconds": statistics.median(calls) * candidate.scale, "calls": len(calls)}

    def fact(self, side: str, name: str) -> dict[str, float]:
        """Something else than time; "peak_rss_bytes" is known for every side."""
        if name == "peak_rss_bytes":
            for _ in range(MIN_CALLS):
                self._chosen[side].run()
            return {"value": _peak_rss_bytes()}
        return {"value": float(self._prepared[side].facts[name]())}

    def unload(self) -> dict[str, Any]:
        """Lets go of the case and its memory."""
        self._case, self._inputs = None, {}
        self._prepared.clear()
        self._chosen.clear()
        gc.collect()
        return {}


def _read_arrays(path: str) -> Arrays:
    with np.load(path) as arrays:
        return dict(arrays)


def _check(form: str, results: Arrays, truth: Arrays, tolerance: Mapping[str, float]) -> float:
    try:
        return gate.check(results, truth, tolerance)
    except gate.GateError as error:
        raise gate.GateError(f"{form}: {error}" if form else str(error)) from None


def _timed_calls(run: Callable[[], Any], seconds: float, at_least: int) -> list[float]:
    clock = time.perf_counter
    calls: list[float] = []
    enabled = gc.isenabled()
    gc.disable()
    try:
        end = clock() + seconds
        before = clock()
        while before < end or len(calls) < at_least:
            run()
            after = clock()
            calls.append(after - before)
            before = after
    finally:
        if enabled:
            gc.enable()
    return calls


def _run_off(candidates: Mapping[str, Candidate]) -> str:
    """Name of the fastest candidate; each gets several short turns, so that no disturbance decides."""
    if len(candidates) == 1:
        return next(iter(candidates))
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(RUN_OFF_ROUNDS):
        for name, candidate in candidates.items():
            calls = _timed_calls(candidate.run, RUN_OFF_SECONDS, 1)
            best[name] = min(best[name], statistics.median(calls))
    return min(best, key=best.__getitem__)


def _state() -> dict[str, Any]:
    """What the figures of this process depend on: our operators' state, and versions of other frameworks."""
    if "maam_ops" not in sys.modules:
        loaded = [name for name in _FRAMEWORKS if name in sys.modules]
        return {"versions": ", ".join(f"{name} {version(name)}" for name in loaded)} if loaded else {}
    maam_ops = sys.modules["maam_ops"]
    core = importlib.import_module("maam_ops._core")
    return {
        "onednn": maam_ops.runtime.status().state,
        "isa": core.active_isa(),
        "threads": core.num_threads(),
    }


def _peak_rss_bytes() -> int:
    # Not getrusage: its maximum survives exec, so it would count the parent process.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def _take_output() -> TextIO:
    """The real standard output; whatever the frameworks print goes to standard error from now on."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return output


def _use_cpus(count: int) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def main() -> None:
    output = _take_output()
    _use_cpus(int(sys.argv[1]))
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        method = getattr(worker, request.pop("do"))
        try:
            answer = method(**request)
        except gate.GateError as error:
            answer = {"red": str(error)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        output.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
