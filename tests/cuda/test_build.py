"""What nvcc makes of the sources: it compiles and links, for the architectures the documents name."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda import gpu
from tests.cuda.emulated import CSRC, ROOT

ENTRY_POINTS = {
    "AggregateForward",
    "AggregateBackward",
    "ReduceInference",
    "ReduceTraining",
    "ReduceBackward",
    "ReduceInferenceBackward",
    "AggregateReduceInference",
    "AggregateReduceTraining",
    "AggregateReduceBackward",
    "AggregateReduceInferenceBackward",
    "MaamInference",
}
NEVER_WITHOUT = {"75", "80", "90"}  # of those that nvcc knows


def _tool(name: str) -> str | None:
    """A tool of the CUDA toolkit, on the path or where the toolkit is."""
    folders = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [Path(folder) / "bin" / name for folder in folders if folder]
    return shutil.which(name) or next((str(place) for place in places if place.exists()), None)


@pytest.fixture(scope="module")
def nvcc() -> str:
    path = _tool("nvcc")
    if path is None:
        pytest.skip("needs nvcc: install the CUDA toolkit")
    return path


@pytest.fixture(scope="module")
def library() -> Path:
    if not gpu.library_path().exists():
        pytest.skip(f"needs the CUDA library {gpu.library_path().name}: make cuda")
    return gpu.library_path()


@pytest.mark.parametrize("architecture", ["75", "90"])
def test_the_aggregate_reduce_compiles_and_links(nvcc, architecture, tmp_path):
    """The driver of one operator, quick enough for every run; `make cuda` compiles all."""
    known = subprocess.run([nvcc, "--list-gpu-arch"], check=True, capture_output=True, text=True).stdout
    if f"compute_{architecture}" not in known:
        pytest.skip(f"this nvcc does not know sm_{architecture}")
    command = [
        nvcc,
        "-std=c++20",
        f"-arch=sm_{architecture}",
        f"-I{CSRC}",
        "-Werror=all-warnings",
        "-Xcompiler=-fPIC,-Wall",
    ]
    sources = [CSRC / "core" / "cuda" / "runtime.cu", CSRC / "aggregate_reduce" / "cuda.cu"]
    library = tmp_path / "part.so"
    subprocess.run([*command, "-shared", *map(str, sources), "-o", str(library)], check=True)
    assert library.stat().st_size > 0


def test_every_entry_point_is_exported_with_its_inference(library):
    handle = ctypes.CDLL(str(library))
    for name in ENTRY_POINTS:
        for suffix in ("", "InferShape", "InferType"):
            assert hasattr(handle, name + suffix), name + suffix


def test_the_library_needs_no_cuda_runtime(library):
    """The runtime is inside; the driver is found by it when the first kernel runs."""
    needed = subprocess.run(["ldd", str(library)], check=True, capture_output=True, text=True).stdout
    assert "cudart" not in needed and "libcuda" not in needed


def test_architectures(library, nvcc):
    """Machine code for every architecture that CMake chose, and PTX for what comes after."""
    cuobjdump = _tool("cuobjdump")
    if cuobjdump is None:
        pytest.skip("needs cuobjdump: of the CUDA toolkit, or pip install nvidia-cuda-cuobjdump")

    def listed(option: str) -> set[str]:
        text = subprocess.run([cuobjdump, option, str(library)], check=True, capture_output=True, text=True).stdout
        return set(re.findall(r"sm_(\d+)", text))

    known = set(
        re.findall(
            r"compute_(\d+)",
            subprocess.run([nvcc, "--list-gpu-arch"], check=True, capture_output=True, text=True).stdout,
        )
    )
    assert listed("--list-elf") >= NEVER_WITHOUT & known
    assert len(listed("--list-ptx")) == 1


def test_no_fast_math():
    for path in (ROOT / "csrc" / "cuda.cmake", ROOT / "CMakeLists.txt", ROOT / "Makefile"):
        assert "fast-math" not in path.read_text() and "fast_math" not in path.read_text()


def test_the_tests_need_no_build_of_the_package(tmp_path):
    """They are for a machine with a GPU, on which `make cuda` may be all that was run."""
    leave_out = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("maam_ops", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=leave_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [sys.executable, "-m", "pytest", "tests/cuda", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0 and "skipped" not in done.stdout.lower(), done.stdout[-2000:]
    assert "test_faults.py" in done.stdout and "test_maam.py" in done.stdout
