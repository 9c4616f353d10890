"""Threads, processes, fork and Ctrl-C around running kernels."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.kernels import needs_this_process
from tests.maam_ops import native

from .operators import OPERATORS
from .recording import record

pytestmark = needs_this_process
ROOT = Path(__file__).resolve().parents[2]


def recordings(which="pieces"):
    return [record(getattr(operator, which)(dtype).check).without_oracles() for operator in OPERATORS for dtype in
            operator.dtypes]  # fmt: skip


def digest():
    """Of every result of every operator, the same in every process."""
    return hashlib.sha256(b"".join(bits for calls in recordings("plain") for bits in calls.bits())).hexdigest()


@pytest.fixture(scope="module")
def calls():
    with native.threads(2):
        return recordings()


def test_eight_threads(calls):
    wrong = []

    def work(number):
        for turn in range(3):
            recording = calls[(number + turn) % len(calls)]
            if recording.again() != recording.bits():
                wrong.append(recording.functions)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _python(code):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_four_processes():
    processes = [_python("from tests.verify.test_processes import digest; print(digest())") for _ in range(4)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [out.strip() for out, _ in said] == [digest()] * 4, said


def test_fork_after_use(calls):
    """The child has none of its parent's threads, and gets its own."""
    with native.threads(2):
        children = []
        for recording in calls:
            child = os.fork()
            if child == 0:
                os._exit(0 if recording.again() == recording.bits() else 1)
            children.append(child)
        assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
        assert all(recording.again() == recording.bits() for recording in calls)


_BUSY = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits that it is ignored
from tests.maam_ops.aggregate_case import AggregateCase
from tests.verify.recording import record
calls = record(AggregateCase(1_000_000, 3, "float32").check).without_oracles()
try:
    print("ready", flush=True)
    while True:
        calls.again()
except KeyboardInterrupt:
    print("interrupted", calls.again() == calls.bits(), flush=True)
"""


def test_ctrl_c_during_a_kernel():
    """It ends the program's loop, not the kernel: what comes next still works."""
    process = _python(_BUSY)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert out == "interrupted True\n" and process.returncode == 0, err


_FEW_THREADS = """
import resource
from tests.maam_ops import native
from tests.maam_ops.aggregate_case import AggregateCase
from tests.verify.recording import record
with native.threads(1):
    calls = record(AggregateCase(1_000_000, 3, "float32").check).without_oracles()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20), -1))
with native.threads(64):
    print(all(calls.again() == calls.bits() for _ in range(20)))
"""


def test_threads_that_cannot_be_had_are_done_without():
    process = _python(_FEW_THREADS)
    out, err = process.communicate(timeout=300)
    assert out == "True\n" and process.returncode == 0, (process.returncode, err)
    assert err.count("no more can be had") == 1


_CHANGING_LIMIT = """
import threading
from tests.kernels import core
from tests.verify.test_processes import recordings
calls = recordings("plain")
over = threading.Event()
def change():
    while not over.is_set():
        for n in (16, 1, 5):
            core.set_num_threads(n)
changes = threading.Thread(target=change)
changes.start()
print(all(recording.again() == recording.bits() for _ in range(20) for recording in calls))
over.set()
changes.join()
"""


def test_the_number_of_threads_may_change_at_any_time():
    """A call keeps the number that it began with: its working memory is laid out by it."""
    process = _python(_CHANGING_LIMIT)
    out, err = process.communicate(timeout=300)
    assert out == "True\n" and process.returncode == 0, (process.returncode, err)
