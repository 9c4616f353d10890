"""Small data and models shared by the tests of `maam`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mindspore as ms
import numpy as np
import pytest

from maam.data import ImageData, load_digits

# An `authors` net of about 7,000 parameters.
TINY = {"channels": 4, "reduce_channels": 6, "hidden": 16, "pool": 4}
# Seconds for another process to end: one that hangs never does, however loaded the machine is.
PATIENCE = 300


@contextlib.contextmanager
def _mode_put_back() -> Iterator[None]:
    """Training and evaluation switch MindSpore to GRAPH mode."""
    before = ms.get_context("mode")
    yield
    ms.set_context(mode=before)


@pytest.fixture(scope="module", autouse=True)
def _mode_after_a_module() -> Iterator[None]:
    with _mode_put_back():
        yield


@pytest.fixture(autouse=True)
def _mode_after_a_test() -> Iterator[None]:
    with _mode_put_back():
        yield


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_digits()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
