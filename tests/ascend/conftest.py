from __future__ import annotations

import pytest

from tests.ascend import emulated
from tests.ascend.aggregate_emulated import Aggregate


@pytest.fixture(scope="session")
def aggregate() -> Aggregate:
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    return Aggregate()
