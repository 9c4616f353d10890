"""The classifiers on bytes beside the same in float32."""

import pytest
from conftest import subject_clock


@pytest.mark.benchmark(timer=subject_clock)
def test_int8(measure, spec):
    measure(spec)
