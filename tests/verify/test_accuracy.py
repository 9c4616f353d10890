"""Accuracy: every result of every operator, dtype and variant within the operator's bound around the exact one."""

import numpy as np
import pytest

from tests.kernels import core
from tests.maam_ops import native

from .draw import Draw
from .operators import EVERY, NAMES, OPERATORS
from .recording import record

MOST_ZEROS = 0.3  # more than that, and a comparison says little


def trusted(recording):
    """Raises where a result is mostly zeros: a kernel that computes nothing could have written it."""
    for function, _, outputs in recording.calls:
        for i, array in enumerate(outputs):
            if array.dtype == "uint8":  # an index, of which 0 is a good one
                continue
            zeros = np.mean(array.values == 0) if array.data.size else 0
            assert zeros <= MOST_ZEROS, f"{function}: result {i} is not trusted, {zeros:.0%} of it are zeros"


@pytest.mark.parametrize("operator, dtype, isa", EVERY, ids=NAMES)
def test_plain_values(operator, dtype, isa):
    with native.capped(isa):
        trusted(record(operator.plain(dtype).check))


@pytest.mark.parametrize("operator, dtype, isa", EVERY, ids=NAMES)
def test_hostile_values_and_sizes(operator, dtype, isa, full):
    with native.capped(isa):
        for number in range(40 if full else 4):
            operator.draw(Draw("accuracy", operator.name, dtype, number), dtype).check()


def test_every_entry_point_has_a_case():
    """An operator that is not in the list of operators would be verified by nothing."""
    launched = set()
    for operator in OPERATORS:
        for dtype in operator.dtypes:
            launched |= record(operator.plain(dtype).check).functions
    missing = {name for name in core.functions() if not name.startswith("Planted")} - launched
    assert not missing, f"no case in tests/verify/operators.py launches {', '.join(sorted(missing))}"


def test_every_variant_has_an_operator():
    """Every file of kernels for an instruction set is reached by capping it."""
    isas = {isa for _, isa, runnable in core.kernels() if runnable}
    assert {isa for operator in OPERATORS for isa in operator.isas} == isas
