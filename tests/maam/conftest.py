"""Small data and models shared by the tests of `maam`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maam.data import ImageData, load_digits

# An `authors` net of about 9,000 parameters.
TINY = {"channels": 4, "reduce_channels": 6, "hidden": 8, "pool": 4}


@pytest.fixture(autouse=True)
def _work_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # MindSpore and `maam train` write into the working directory.
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_digits()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
