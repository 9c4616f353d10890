"""Trains what is missing, one run after the other, and says how long the rest will take."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import MaamError
from . import results as files
from .results import DataMark, Result
from .settings import Run
from .worker import differing

# How long an interrupted start may need to finish its last step.
LOCK_SECONDS = 60.0
Event = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run with one seed."""

    run: Run
    seed: int

    def __str__(self) -> str:
        return f"{self.run.name} seed {self.seed}"


@dataclass(frozen=True)
class Places:
    """Where things are: `data` (None = embedded digits), `out` for checkpoints, `results` for what is kept.

    `mark` says which images are in `data`.
    """

    data: Path | None
    out: Path
    results: Path
    mark: DataMark

    def folder(self, job: Job) -> Path:
        return self.out / "runs" / job.run.name / f"seed{job.seed}"


class Interrupted(Exception):
    """Ctrl-C; everything up to the last step is saved."""


def check_data(runs: Iterable[Run], places: Places) -> None:
    """Raise :class:`MaamError` if a result of any of these runs was obtained on other images than those of today.

    A report averages and compares whatever is in the folder, so also the rows that are not trained today count.
    """
    for run in runs:
        for result in files.read_all(places.results, run.name):
            _check_data(result, places)


def _check_data(result: Result, places: Places) -> None:
    if result.data != places.mark:
        folder = files.folder_of(places.results, result.run, result.seed)
        given = "no --data" if places.data is None else f"--data {places.data}"
        raise MaamError(
            f"results {folder}: obtained on {result.data}, but {given} means {places.mark}; name another --results "
            "folder for these images"
        )


def is_finished(job: Job, places: Places) -> bool:
    """Whether the results of a job are there.

    Raises:
        MaamError: they were obtained on other images or with other settings than those of today, or are damaged.
    """
    result = files.read(places.results, job.run.name, job.seed)
    if result is None:
        return False
    _check_data(result, places)
    expected = job.run.config_for(job.seed, places.mark.name)
    difference = differing(result.summary["settings"], expected)
    if difference:
        folder = files.folder_of(places.results, job.run.name, job.seed)
        raise MaamError(f"results {folder}: obtained with other settings ({difference}); delete them to train anew")
    return True


class Estimate:
    """How long the jobs that are left will take, from the epochs seen so far."""

    def __init__(self, jobs: Sequence[Job], places: Places) -> None:
        self._jobs = list(jobs)
        self._seconds: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self._last = time.monotonic()
        for name in {job.run.name for job in jobs}:
            known = [row["seconds"] for result in files.read_all(places.results, name) for row in result.epochs]
            if known:
                self._seconds[name] = statistics.median(known)

    def begins(self) -> None:
        """A job begins now."""
        self._last = time.monotonic()

    def saw(self, job: Job, epoch: int) -> None:
        """An epoch of a job is over, evaluation and checkpoint included."""
        now = time.monotonic()
        self._done[str(job)] = epoch
        self._seconds[job.run.name], self._last = now - self._last, now

    def finished(self, job: Job) -> None:
        self._jobs.remove(job)

    def left(self) -> float | None:
        """Seconds; runs never seen count like the mean of those seen. None before the first epoch."""
        if not self._seconds:
            return None
        usual = statistics.mean(self._seconds.values())
        return sum(
            (job.run.config.epochs - self._done.get(str(job), 0)) * self._seconds.get(job.run.name, usual)
            for job in self._jobs
        )


@contextlib.contextmanager
def locked(folder: Path, stop: Callable[[], bool], echo: Callable[[str], None]) -> Iterator[int]:
    """One at a time in `folder`; yields the lock's file descriptor, which keeps the lock while any process has it.

    Raises:
        KeyboardInterrupt: `stop` said so while another was at work there.
        MaamError: the other did not end in time, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise MaamError(f"--out {folder}: cannot be written to ({error.strerror}); name another") from error
    with file as lock:
        end = None
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if end is None:
                    end = time.monotonic() + LOCK_SECONDS
                    echo(f"another maam reproduce is at work in {folder}: waiting {LOCK_SECONDS:.0f} s for it to end")
            if stop():
                raise KeyboardInterrupt
            if time.monotonic() > end:
                raise MaamError(
                    f"--out {folder}: another maam reproduce is at work there; wait for it, or name another folder"
                )
            time.sleep(0.2)
        yield lock.fileno()


def train(job: Job, places: Places, lock: int, on_event: Callable[[Event], None], stop: Callable[[], bool]) -> None:
    """Train one job in a process of its own, from its last checkpoint if there is one.

    Raises:
        Interrupted: `stop` said so, or the process got Ctrl-C itself.
        MaamError: the process ended otherwise before the end of the run; it has said why on standard error.
    """
    request = {
        "config": asdict(job.run.config_for(job.seed, places.mark.name)),
        "run": job.run.name,
        "data": None if places.data is None else str(places.data.resolve()),
        "folder": str(places.folder(job).resolve()),
        "results": str(places.results.resolve()),
    }
    path = os.pathsep.join(entry for entry in map(os.path.abspath, sys.path) if os.path.exists(entry))
    # MindSpore leaves files behind where it runs.
    with tempfile.TemporaryDirectory(prefix="maam_reproduce_") as scratch:
        process = subprocess.Popen(
            [sys.executable, "-m", "maam.reproduce.worker", json.dumps(request)],
            cwd=scratch,
            env={"GLOG_v": "3", **os.environ, "PYTHONPATH": path, "MAAM_OPS_QUIET": "1"},
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(lock,),
        )
        asked = False
        with process.stdout:
            for line in process.stdout:
                on_event(json.loads(line))
                if not asked and stop():
                    asked = True
                    process.send_signal(signal.SIGINT)
        code = process.wait()
    if code == 130:
        raise Interrupted
    if code != 0:
        raise MaamError(f"reproduce: {job} ended with exit code {code}; its finished epochs are kept")
