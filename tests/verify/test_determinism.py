"""Determinism: the same bits from every run, for any number of threads, of every operator, dtype and variant."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels import needs_this_process
from tests.maam_ops import native

from .operators import EVERY, NAMES
from .recording import record

THREADS = (1, 2, 4, 8)


@pytest.mark.parametrize("operator, dtype, isa", EVERY, ids=NAMES)
def test_same_bits_from_every_run_and_number_of_threads(operator, dtype, isa, full):
    case = operator.pieces(dtype)
    with native.capped(isa):
        calls = record(case.check).without_oracles()
        first = calls.bits()
        for n in THREADS:
            with native.threads(n):
                for run in range(30 if full else 2):
                    assert calls.again() == first, f"run {run} on {n} threads differs"


# Each named implementation inside MindSpore, whose number of threads is settled when it starts.
_IN_MINDSPORE = """
import hashlib
import sys

import mindspore as ms
import numpy as np

from maam_ops import _select, functional as f

ms.set_context(mode=ms.PYNATIVE_MODE, runtime_num_threads=int(sys.argv[1]))
rng = np.random.default_rng(0)
alpha, *branches = (ms.Tensor(rng.standard_normal(s).astype(np.float32)) for s in ((3,), *[(8, 16, 33, 31)] * 3))
weight = ms.Tensor(rng.standard_normal((24, 16, 1, 1)).astype(np.float32))
vectors = [ms.Tensor(rng.uniform(0.5, 1.5, 24).astype(np.float32)) for _ in range(4)]
calls = {
    "agent_aggregate": lambda impl: lambda alpha, *a: f.agent_aggregate(alpha, *a, impl=impl),
    "aggregate_reduce": lambda impl: lambda alpha, *a: f.aggregate_reduce(alpha, a, weight, *vectors, training=True,
                                                                          impl=impl)[0],
}
for op, call in calls.items():
    for implementation in _select.implementations(op):
        if implementation.why_not() is not None:
            continue
        run = call(implementation.name)
        gradient = ms.grad(lambda *x: (run(*x) ** 2).sum(), (0, 1, 2, 3))
        seen = set()
        for _ in range(30):
            results = [run(alpha, *branches), *gradient(alpha, *branches)]
            seen.add(hashlib.sha256(b"".join(t.asnumpy().tobytes() for t in results)).hexdigest()[:16])
        print(op, implementation.name, *sorted(seen))
"""


@needs_this_process
def test_named_implementations_in_mindspore(full):
    if not full:
        pytest.skip("starts MindSpore four times: make verify")
    pytest.importorskip("mindspore")
    root = Path(__file__).resolve().parents[2]
    said = []
    for n in THREADS:
        command = [sys.executable, "-c", _IN_MINDSPORE, str(n)]
        environment = os.environ | {"PYTHONPATH": str(root), "MAAM_OPS_NUM_THREADS": str(n)}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert len(set(said)) == 1, said
    lines = [line.split() for line in said[0].splitlines()]
    assert {line[1] for line in lines} >= {"native", "reference"} and all(len(line) == 3 for line in lines), lines
