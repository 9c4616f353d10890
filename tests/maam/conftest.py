"""Small data and models shared by the tests of `maam`."""

from __future__ import annotations

import numpy as np
import pytest

from maam.data import ImageData, load_digits

# An `authors` net of about 7,000 parameters.
TINY = {"channels": 4, "reduce_channels": 6, "hidden": 16, "pool": 4}
# Seconds for another process to end: one that hangs never does, however loaded the machine is.
PATIENCE = 300


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_digits()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
