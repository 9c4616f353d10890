"""Fuzzing: random cases of every operator, in full with another seed each day; damaged files for every reader."""

import datetime
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.kernels import needs_this_process
from tests.maam_ops import native

from . import fuzz, readers
from .draw import SEED

ROOT = Path(__file__).resolve().parents[2]
CASES, SHARE = 100_000, 250  # of `make verify`, of `make test`
SECONDS = 60  # for each reader


def test_random_cases(full, record_property):
    if full:
        seed = int(os.environ.get("MAAM_OPS_TEST_SEED") or datetime.date.today().strftime("%Y%m%d"))
        print(f"seed {seed}")
        cases, calls = map(sum, zip(*fuzz.run_many(seed, 0, CASES, os.cpu_count()), strict=True))
        assert cases == CASES
        record_property("calls", calls)
    else:
        # One commit, one outcome: neither the day nor the load of the machine choose the cases.
        cases = sum(1 for _ in fuzz.run(SEED, cases=SHARE))
    record_property("random cases", cases)


def test_a_failure_names_the_line_that_replays_it():
    def wrap(launch):
        def wrong(function, inputs, outputs):
            launch(function, inputs, outputs)
            if not function.endswith("Reference"):
                outputs[0].data[...] = 7

        return wrong

    with native.launching(wrap), pytest.raises(fuzz.FuzzFailure, match="--seed 1 --first 5 --cases 1") as raised:
        list(fuzz.run(1, first=5, cases=10))
    assert raised.value.__cause__ is not None
    assert len(list(fuzz.run(1, first=5, cases=1))) == 1


@needs_this_process
@pytest.mark.parametrize("name", readers.READERS)
def test_damaged_files_are_refused_in_words(name, full, record_property):
    pytest.importorskip("mindspore")
    if name == "recipe":
        pytest.importorskip("yaml")
    reader = readers.READERS[name]
    rng = np.random.default_rng(1)
    valid = reader.valid()
    assert all(readers.accepts_or_refuses(reader, data) for data in valid)
    count = (20_000 if full else 300) // (10 if name == "checkpoint" else 1)
    for number in range(count):
        data = readers.damaged(valid[number % len(valid)], rng)
        try:
            readers.accepts_or_refuses(reader, data)
        except Exception as error:
            Path(f"damaged-{name}").write_bytes(data)
            raise AssertionError(f"{name}: file {number}, kept as {Path.cwd()}/damaged-{name}: {error!r}") from error
    record_property("calls", count)


@needs_this_process
@pytest.mark.parametrize("name", readers.READERS)
def test_nothing_and_noise_are_refused(name):
    pytest.importorskip("mindspore")
    reader = readers.READERS[name]
    for data in (b"", b"\0", b"\xff" * 100, b"{}", b"[]", b"null", b"[" * 2_000, b"\x80\x04."):
        assert not readers.accepts_or_refuses(reader, data)


@needs_this_process
@pytest.mark.parametrize("name", readers.READERS)
def test_files_that_reach_new_code(name, full, record_property):
    """Fuzzing by coverage."""
    if not full:
        pytest.skip("takes a minute: make verify, or make fuzz")
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris: pip install 'maam-ops[fuzz]'")
    command = [sys.executable, "-m", "tests.verify.readers", name, "--seconds", str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    record_property("calls", int(re.search(r"number_of_executed_units: +(\d+)", done.stdout + done.stderr)[1]))
