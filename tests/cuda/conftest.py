from __future__ import annotations

import pytest

from tests.cuda import emulated, gpu
from tests.maam_ops import arrays


@pytest.fixture(scope="session")
def _emulated() -> emulated.Emulated:
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    return emulated.Emulated()


@pytest.fixture(scope="session")
def _gpu() -> gpu.Gpu:
    reason = gpu.why_not()
    if reason is not None:
        pytest.skip(reason)
    return gpu.Gpu()


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def device(request):
    """Every case twice: on emulated threads, and on a GPU where there is one."""
    runner = request.getfixturevalue(f"_{request.param}")
    with arrays.launching(lambda _: runner):
        yield runner


@pytest.fixture
def emulator(request):
    """Emulated threads alone, for what a GPU does not tell."""
    runner = request.getfixturevalue("_emulated")
    with arrays.launching(lambda _: runner):
        yield runner
    runner.order = emulated.ORDERS[0]
