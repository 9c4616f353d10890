"""Builds the native kernels with CMake and ninja. Everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PACKAGE = "maam_ops"
KERNELS = ("libmaam_ops.so", "libmaam_ops_cuda.so")


class CMakeBuild(build_ext):
    """Configure and build once; both libraries go beside the Python files of the package."""

    def run(self) -> None:
        # build/ may hold those of an earlier build, such as CUDA's, and a wheel takes whatever lies there.
        for stale in (Path(self.build_lib) / PACKAGE).glob("*.so"):
            stale.unlink()
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            print(
                f"\n{PACKAGE}: no C++ compiler found: installing without native kernels, every operator runs its "
                "reference. For the kernels: install g++ (10 or newer) and reinstall.\n",
                file=sys.stderr,
            )
            self.extensions = []
            return
        super().run()

    def build_extension(self, extension: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(extension.name)).resolve().parent
        with tempfile.TemporaryDirectory(prefix=f"{PACKAGE}-build-") as build:
            configure = [
                *self.tool("cmake"),
                f"-S{ROOT}",
                f"-B{build}",
                "-GNinja",
                f"-DMAAM_OPS_VERSION={self.distribution.get_version()}",
                f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                f"-DPYTHON_EXECUTABLE={sys.executable}",
                f"-DPYTHON_INCLUDE_DIR={sysconfig.get_path('include')}",
                f"-DMAAM_OPS_CUDA={os.environ.get('MAAM_OPS_CUDA', 'off')}",
                *os.environ.get("CMAKE_ARGS", "").split(),
            ]
            subprocess.run(configure, check=True)
            subprocess.run([*self.tool("cmake"), "--build", build], check=True)
            for library in Path(build).glob("*.so"):
                self.place(library, target)

    def copy_extensions_to_source(self) -> None:
        """For an editable install setuptools copies the extension it knows of; the kernels are libraries beside it."""
        super().copy_extensions_to_source()
        for name in KERNELS:
            kernels = Path(self.build_lib) / PACKAGE / name
            if kernels.exists():
                self.place(kernels, ROOT / PACKAGE)

    @staticmethod
    def place(library: Path, folder: Path) -> None:
        """Copy beside and rename: a running process keeps the old library instead of crashing in a half-written one."""
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{library.name}.new"
        shutil.copy2(library, fresh)
        fresh.replace(folder / library.name)

    @staticmethod
    def tool(name: str) -> list[str]:
        """The build requirement installed for this build, else the one on the path."""
        beside = Path(sys.executable).with_name(name)
        return [str(beside)] if beside.exists() else [name]


setup(ext_modules=[Extension(f"{PACKAGE}._core", sources=[])], cmdclass={"build_ext": CMakeBuild})
