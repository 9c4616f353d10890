"""Guarding: pages that may not be touched around every buffer, inputs that cannot be written, NaN wherever nothing was
written yet, no memory lost over ten thousand calls."""

import pytest

from tests.kernels import needs_this_process
from tests.maam_ops import native

from . import runners
from .draw import Draw
from .operators import EVERY, NAMES, OPERATORS
from .recording import record

pytestmark = needs_this_process  # the tests start runners of their own


@pytest.fixture(scope="module", params=["end", "begin"])
def guarded(program, request):
    """Kernels whose buffers end, or begin, at a guard page."""
    runner = runners.start(program, f"--place={request.param}")
    yield runner
    runner.close()


@pytest.mark.parametrize("operator, dtype, isa", EVERY, ids=NAMES)
def test_no_access_outside_the_buffers(guarded, operator, dtype, isa, full):
    with native.reached_through(guarded), native.capped(isa):
        operator.plain(dtype).check()
        for number in range(25 if full else 2):
            operator.draw(Draw("guards", operator.name, dtype, number), dtype).check()


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_no_memory_is_lost(program, operator, full):
    calls = record(operator.plain("float32").check).without_oracles().calls
    runner = runners.start(program)
    repeats = 10_000 if full else 1_000
    with native.reached_through(runner):
        for function, inputs, outputs in calls:
            arrays = [*inputs, *outputs]
            operands = [a.data for a in inputs], [a.data for a in outputs], [a.dtype for a in arrays]
            updated = [i for i, a in enumerate(inputs) if a.updated]
            runner.launch(function, *operands, repeats=100, updated=updated)  # threads start, their caches fill
            before = runner.heap_bytes()
            runner.launch(function, *operands, repeats=repeats, updated=updated)
            assert runner.heap_bytes() - before < 8 * repeats, f"{function} loses memory"
    runner.close()


def test_callers_at_the_same_time_get_the_same_bits(program):
    """Eight threads of one process that enter the same operator together."""
    runner = runners.start(program, "--callers=8", "--place=heap")
    with native.reached_through(runner):
        for operator in OPERATORS:
            for dtype in operator.dtypes:
                operator.plain(dtype).check()
    runner.close()
