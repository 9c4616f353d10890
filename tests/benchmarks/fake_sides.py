"""Sides without a framework, for the tests of the runner; the worker process imports this module by name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from maam.bench.cases import Arrays, Case
from maam.bench.sides import SIDES, Candidate, Prepared, Side


def honest(case: Case, inputs: Arrays, offset: float = 0.0, nan: bool = False) -> Prepared:
    """The oracle's results, off by so much."""
    print("noise on standard output")
    results = {name: value + offset for name, value in case.expected(inputs).items()}
    if nan:
        next(iter(results.values())).flat[0] = np.nan
    return Prepared({"": Candidate(lambda: results)}, {"answer": lambda: 42.0})


def two_forms(case: Case, inputs: Arrays) -> Prepared:
    """A slow form and a quick one."""
    results = case.expected(inputs)

    def slow() -> Arrays:
        time.sleep(0.01)
        return results

    return Prepared({"slow": Candidate(slow), "quick": Candidate(lambda: results)})


def scaled_sleep(case: Case, inputs: Arrays) -> Prepared:
    """Sleeps 10 ms and says that it stands for 30."""
    results = case.expected(inputs)

    def run() -> Arrays:
        time.sleep(0.01)
        return results

    return Prepared({"": Candidate(run, scale=3.0)})


def second_form_wrong(case: Case, inputs: Arrays) -> Prepared:
    """Every form must pass the gate, not only the first."""
    right, wrong = honest(case, inputs).candidates[""], honest(case, inputs, offset=1.0).candidates[""]
    return Prepared({"right": right, "wrong": wrong})


def environment(case: Case, inputs: Arrays) -> Prepared:
    """Reports the process's surroundings as facts."""
    facts = {
        "cpus": lambda: len(os.sched_getaffinity(0)),
        "impl": lambda: float("MAAM_OPS_IMPL" in os.environ),
        "own": lambda: float(os.environ["FAKE_SIDE"]),
    }
    return Prepared(honest(case, inputs).candidates, facts)


def raising(case: Case, inputs: Arrays) -> Prepared:
    raise RuntimeError("this side cannot")


def dying(case: Case, inputs: Arrays) -> Prepared:
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


def side(name: str, function: str, **fields) -> Side:
    return Side(name, "a fake", f"{__name__}:{function}", **fields)


@contextmanager
def registered(*sides: Side) -> Iterator[None]:
    """Known to benchmarks for a while."""
    before = dict(SIDES)
    SIDES.update({one.name: replace(one) for one in sides})
    try:
        yield
    finally:
        SIDES.clear()
        SIDES.update(before)
