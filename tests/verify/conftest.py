"""Counts what each test verified, for the table of ``make verify``."""

from __future__ import annotations

import os

import pytest

from tests.maam_ops import native

from . import runners

FULL = os.environ.get("MAAM_OPS_VERIFY") == "full"


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether this is ``make verify``; ``make test`` takes a share of it."""
    return FULL


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The runner, built against the installed kernels."""
    return runners.build(tmp_path_factory.mktemp("runner"))


@pytest.fixture(autouse=True)
def count_calls(record_property):
    """Notes how many calls of kernels a test checked."""
    calls = 0

    def wrap(launch):
        def counting(*arguments):
            nonlocal calls
            calls += 1
            launch(*arguments)

        return counting

    with native.launching(wrap):
        yield
    record_property("calls", calls)
