"""Determinism: the same bits from every run, for any number of threads, of every operator, dtype and variant."""

import pytest

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
