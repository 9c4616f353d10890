"""Training of a single branch with the gradient of its images: operator against MindSpore's layers."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_branch(measure, spec):
    measure(spec)
