"""Eq. 4 to 8 alone: kernels against the FMA ceiling, operator against plain MindSpore, tuned and as it comes."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_dense(measure, spec):
    measure(spec)
