"""Builds tests/verify/runner against the kernels that are installed, within seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels import Runner, in_this_process

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> Path:
    """The runner, linked with the library beside maam_ops; skips where there is no compiler."""
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    library = Path(in_this_process().__file__).with_name("libmaam_ops.so")
    program = folder / "maam_ops_runner"
    sources = sorted((ROOT / "tests/verify/runner").glob("*.cc"))
    command = [compiler, "-std=c++20", "-O1", "-pthread", f"-I{ROOT / 'csrc'}", *map(str, sources), str(library)]
    subprocess.run([*command, f"-Wl,-rpath,{library.parent}", "-o", str(program)], check=True)
    return program


def start(program: Path, *options: str) -> Runner:
    return Runner([str(program), *options])
