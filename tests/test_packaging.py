"""What a source distribution and a wheel take from a checkout, and what they leave there."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CMakeLists.txt")
FOLDERS = ("csrc", "maam", "maam_ops")
STALE = ("maam_ops/_core.cpython-399-x.so", "maam_ops/libmaam_ops_cuda.so")


def _setuptools() -> int:
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


pytestmark = pytest.mark.skipif(_setuptools() < 61, reason="needs setuptools 61, the first to read pyproject.toml")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy in which an editable install for another Python, and one with CUDA, left their libraries and lists."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in STALE:
        (folder / name).touch()
    sources = folder / "maam_ops.egg-info" / "SOURCES.txt"
    sources.parent.mkdir()
    sources.write_text("\n".join(STALE))
    return folder


def setup(checkout: Path, *arguments: object, **environment: str) -> None:
    command = [sys.executable, "setup.py", "-q", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | environment
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_source_distribution_holds_what_its_build_reads(checkout, tmp_path):
    setup(checkout, "sdist", "-d", tmp_path)
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    read = {str(path.relative_to(checkout)) for path in (checkout / "csrc").rglob("*") if path.is_file()}
    assert read.union(FILES, FOLDERS) <= packed
    assert {"maam_ops/tuning.json", "maam/reproduce/runs/maam.yaml", "maam/reproduce/templates/macros.j2"} <= packed
    assert not [name for name in packed if name.endswith(".so")]


def test_a_build_takes_no_library_from_the_checkout(checkout, tmp_path):
    setup(checkout, "build_py", "--build-lib", tmp_path)
    assert (tmp_path / "maam_ops" / "tuning.json").exists()
    assert (tmp_path / "maam" / "reproduce" / "runs" / "maam.yaml").exists()
    assert not list(tmp_path.rglob("*.so"))


def test_a_build_takes_no_library_of_an_earlier_one(checkout, tmp_path):
    (tmp_path / "maam_ops").mkdir()
    for name in STALE:
        (tmp_path / name).touch()
    # Without a compiler on the path it builds none of its own.
    setup(checkout, "build_ext", "--build-lib", tmp_path, PATH=str(tmp_path))
    assert not list(tmp_path.rglob("*.so"))
