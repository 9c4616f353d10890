"""Eq. 9 alone: kernel against the bandwidth ceiling, operator against plain MindSpore and graph kernel fusion."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_aggregate(measure, spec):
    measure(spec)
