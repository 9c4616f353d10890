from __future__ import annotations

import pytest

import emulated
from aggregate_emulated import Aggregate


@pytest.fixture(scope="session")
def aggregate() -> Aggregate:
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    return Aggregate()
