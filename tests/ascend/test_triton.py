"""The Triton form of the aggregate, where triton-ascend is installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("triton_check.py")


def installed() -> bool:
    try:
        return bool(importlib.metadata.version("triton-ascend"))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not installed(), reason="needs triton-ascend: pip install 'maam-ops[triton-ascend]' (Python 3.11)")
@pytest.mark.parametrize("task", ["interpret", "lower"])
def test_triton_kernels(task):
    environment = os.environ | {"TRITON_INTERPRET": "1" if task == "interpret" else "0"}
    done = subprocess.run([sys.executable, SCRIPT, task], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
