"""One step of Adam on as many elements as the classifier has: operator against MindSpore's own, both kinds of decay."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_optimizer(measure, spec):
    measure(spec)
