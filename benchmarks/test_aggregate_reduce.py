"""Eqs. 9 and 3 in one: against the two kernels in a row and against plain MindSpore."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_aggregate_reduce(measure, spec):
    measure(spec)
