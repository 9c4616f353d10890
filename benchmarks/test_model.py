"""The whole classifier: time, executed kernels and memory, fused against plain MindSpore."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_model(measure, spec):
    measure(spec)
