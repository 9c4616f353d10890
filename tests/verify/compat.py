"""``make compat``: the tests that touch MindSpore, against every supported MindSpore and Python that can be had here.

A wheel is built for each Python once; each pair gets an environment of its own, removed afterwards. A pair that
passed on the same sources is not run again; rows that were not run are kept in docs/compat.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .sources import ROOT, fingerprint

DOCUMENT = ROOT / "docs/compat.md"
MINDSPORE = ("2.7.2", "2.8.0", "2.9.0", "2.10.0")
PYTHON = ("3.10", "3.11", "3.12")
# Every test of the operators that goes through MindSpore.
TESTS = (
    *sorted(
        f"tests/maam_ops/{path.name}"
        for path in (ROOT / "tests/maam_ops").glob("test_*.py")
        if not path.name.startswith("test_native_")
    ),
    "tests/verify/test_gradients.py",
)
NOT_RUN, NO_PYTHON, BROKEN_OFF = "not run", "no python", "broken off"
HEAD = """# Compatibility

Written by `make compat`: operators, gradients and Cells in both modes, run from an installed wheel in a fresh
environment. Tests: all of `tests/maam_ops` but `test_native_*.py`, and `tests/verify/test_gradients.py`.
"sources" tells which rows were obtained from the same kernels, package and tests.

| MindSpore | Python | result | date | sources |
|---|---|---|---|---|
"""


@dataclass
class Pair:
    mindspore: str
    python: str
    result: str = ""
    date: str = ""
    sources: str = ""

    def __str__(self) -> str:
        return f"| {self.mindspore} | {self.python} | {self.result} | {self.date} | {self.sources} |"

    def count(self, what: str) -> int:
        """Tests that passed, failed or were skipped."""
        return sum(int(number) for number in re.findall(rf"(\d+) {what}", self.result))

    @property
    def passed(self) -> bool:
        return self.count("passed") > 0 and not self.failures

    @property
    def failures(self) -> int:
        """What failed, and one for a wheel that is not built or installed, or for tests that did not come to an end."""
        if self.result in ("", NOT_RUN) or self.result.startswith(NO_PYTHON):
            return 0
        counted = self.count("failed") + self.count("error")
        return counted or int("passed" not in self.result or BROKEN_OFF in self.result)


def call(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=os.environ | environment, capture_output=True, text=True
    )


def interpreter(version: str) -> str | None:
    """On the path, or among those of pyenv, whose shims may be there for versions that are switched off."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *sorted(root.glob(f"versions/{version}.*/bin/python{version}"))]
    return next((str(path) for path in found if path is not None and call(path, "--version").returncode == 0), None)


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip().replace("|", "/")[:160] if lines else "no output"


def build_wheel(python: str, folder: Path) -> Path | str:
    """The wheel for a Python, or why there is none."""
    venv = folder / f"build-{python}"
    call(interpreter(python), "-m", "venv", venv)
    done = call(venv / "bin/python", "-m", "pip", "wheel", "--no-deps", "-w", folder / python, ROOT)
    shutil.rmtree(venv)
    wheels = list((folder / python).glob("*.whl"))
    return wheels[0] if wheels else f"not built: {last_line(done.stderr)}"


def run(pair: Pair, wheel: Path | str, folder: Path) -> str:
    if isinstance(wheel, str):
        return wheel
    venv = folder / "venv"
    try:
        call(interpreter(pair.python), "-m", "venv", venv)
        pip = (venv / "bin/python", "-m", "pip", "install", "--quiet")
        packages = [f"mindspore=={pair.mindspore}", "numpy<2", "pytest", "setuptools", "decorator", "sympy"]
        done = call(*pip, *packages)
        if done.returncode == 0:
            done = call(*pip, "--no-deps", wheel)
        if done.returncode != 0:
            return f"not installable: {last_line(done.stderr)}"
        shutil.copytree(ROOT / "tests", folder / "tests", dirs_exist_ok=True)
        start = time.monotonic()
        done = call(venv / "bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, cwd=folder,
                    MAAM_OPS_QUIET="1", PYTHONPATH="")  # fmt: skip
        print(done.stdout[-3000:] if done.returncode else last_line(done.stdout), flush=True)
        counts = re.sub(r" in [0-9.]+s.*", "", last_line(done.stdout)).strip("= ")
        # pytest ends with 0 or, where tests failed, 1; whatever else it says then is no summary.
        ending = "" if done.returncode in (0, 1) else f"{BROKEN_OFF} with {done.returncode}: "
        return f"{ending}{counts} ({time.monotonic() - start:.0f} s)"
    finally:
        shutil.rmtree(venv, ignore_errors=True)


def known() -> dict[tuple[str, str], Pair]:
    text = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    rows = re.findall(r"^\| ([0-9.]+) \| ([0-9.]+) \| (.*) \| (.*) \| (.*) \|$", text, flags=re.MULTILINE)
    return {(mindspore, python): Pair(mindspore, python, *rest) for mindspore, python, *rest in rows}


def totals() -> tuple[int, int, int]:
    """Tests that passed, were skipped and failed on the present sources; a pair that was not run is one skipped."""
    rows = [pair for pair in known().values() if pair.sources == of_sources()]
    ran = sum(1 for pair in rows if pair.count("passed"))
    failed = sum(pair.failures for pair in rows)
    skipped = sum(pair.count("skipped") for pair in rows) + len(MINDSPORE) * len(PYTHON) - ran
    return sum(pair.count("passed") for pair in rows), skipped, failed


def of_sources() -> str:
    build = ("CMakeLists.txt", "setup.py", "pyproject.toml")
    return fingerprint(
        "csrc", *build, "maam_ops", "maam", "tests/conftest.py", "tests/kernels.py", "tests/maam_ops", *TESTS
    )


def write(pairs: dict[tuple[str, str], Pair]) -> None:
    order = [(m, p) for m in MINDSPORE for p in PYTHON]
    rows = [pairs.get(key) or Pair(*key, NOT_RUN) for key in order]
    beside = DOCUMENT.with_suffix(".new")
    beside.write_text(HEAD + "\n".join(map(str, rows)) + "\n")
    beside.replace(DOCUMENT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.compat", description=__doc__.splitlines()[0])
    parser.add_argument("--mindspore", nargs="*", default=MINDSPORE, choices=MINDSPORE)
    parser.add_argument("--python", nargs="*", default=PYTHON, choices=PYTHON)
    arguments = parser.parse_args()
    pairs, sources, today = known(), of_sources(), datetime.date.today().isoformat()
    wanted = [(mindspore, python) for python in arguments.python for mindspore in arguments.mindspore]
    wanted = [key for key in wanted if key not in pairs or not (pairs[key].passed and pairs[key].sources == sources)]
    with tempfile.TemporaryDirectory(prefix="maam-compat-") as name:
        folder, wheels = Path(name), {}
        for mindspore, python in wanted:
            if python not in wheels:
                here = interpreter(python) is not None
                wheels[python] = build_wheel(python, folder) if here else f"{NO_PYTHON}{python} here"
            pair = Pair(mindspore, python, run(Pair(mindspore, python), wheels[python], folder), today, sources)
            print(pair, flush=True)
            pairs[mindspore, python] = pair
            write(pairs)
    return int(any(pair.failures for pair in pairs.values()))


if __name__ == "__main__":
    sys.exit(main())
