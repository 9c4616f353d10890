"""Fuzzing: random cases of every operator for a set time, another seed each day; damaged files for every reader."""

import datetime
import os

import pytest

from tests.maam_ops import native

from . import fuzz


def test_random_cases(full, record_property):
    seed = int(os.environ.get("MAAM_OPS_TEST_SEED") or datetime.date.today().strftime("%Y%m%d"))
    print(f"seed {seed}")
    cases = sum(1 for _ in fuzz.run(seed, seconds=120 if full else 8))
    record_property("random cases", cases)
    assert cases > 20


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
