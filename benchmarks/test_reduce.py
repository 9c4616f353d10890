"""Eq. 3 alone: kernel against FMA and bandwidth ceilings, operator against plain MindSpore."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_reduce(measure, spec):
    measure(spec)
