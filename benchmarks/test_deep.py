"""The classifier with two convolutions a branch: time, fused against plain MindSpore."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_deep(measure, spec):
    measure(spec)
