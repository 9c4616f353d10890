"""``make verify``: every tier of the verification, and one table of what it found."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tier:
    """
    Attributes:
        name: in the table.
        tests: files of tests/verify, or the target of the Makefile that runs them.
        needs: programs without which it is skipped.
    """

    name: str
    tests: tuple[str, ...] = ()
    target: str = ""
    needs: tuple[str, ...] = ()


TIERS = (
    Tier("exactness", ("test_exact.py",)),
    Tier("accuracy", ("test_accuracy.py",)),
    Tier("gradients", ("test_gradients.py",)),
    Tier("special values and sizes", ("test_special.py",)),
    Tier("guard pages, leaks", ("test_guards.py",)),
    Tier("threads, processes, fork, Ctrl-C", ("test_processes.py",)),
    Tier("determinism", ("test_determinism.py",)),
    Tier("random cases, damaged files", ("test_fuzz.py",)),
    Tier("planted faults", ("test_harness.py",)),
    Tier("security", ("test_security.py",)),
    Tier("AddressSanitizer", target="sanitize-address", needs=("g++", "make")),
    Tier("UndefinedBehaviorSanitizer", target="sanitize-undefined", needs=("g++", "make")),
    Tier("ThreadSanitizer", target="sanitize-thread", needs=("g++", "make")),
    Tier("AVX-512 (emulated)", target="avx512-emulated", needs=("g++", "make")),
    Tier("aarch64 (qemu)", target="aarch64", needs=("aarch64-linux-gnu-g++", "qemu-aarch64-static", "make")),
)


@dataclass(frozen=True)
class Row:
    name: str
    tests: int = 0
    calls: int = 0
    failures: int = 0
    seconds: float = 0
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"| {self.name} | - | - | skipped: {self.skipped} | - |"
        return f"| {self.name} | {self.tests:,} | {self.calls:,} | {self.failures} | {self.seconds:.0f} s |"


def run(tier: Tier, folder: Path) -> Row:
    missing = [program for program in tier.needs if shutil.which(program) is None]
    if missing:
        return Row(tier.name, skipped=f"needs {', '.join(missing)}")
    report = folder / f"{len(list(folder.iterdir()))}.xml"
    environment = os.environ | {
        "MAAM_OPS_VERIFY": "full",
        "PYTEST_ADDOPTS": f"--junitxml={report} -o junit_family=xunit1 -p no:cacheprovider",
    }
    if tier.target:
        environment.pop("MAAM_OPS_VERIFY")
        command = ["make", tier.target]
    else:
        command = [sys.executable, "-m", "pytest", "-q", *(f"tests/verify/{name}" for name in tier.tests)]
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    seconds = time.monotonic() - start
    if not report.exists():
        return Row(tier.name, failures=1, seconds=seconds)
    suite = ET.parse(report).getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    calls = sum(int(p.get("value")) for p in suite.iter("property") if p.get("name") == "calls")
    failures = count["failures"] + count["errors"]
    return Row(tier.name, count["tests"] - count["skipped"], calls, failures or int(code != 0), seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify", description=__doc__)
    parser.add_argument("--only", metavar="WORD", default="", help="tiers whose name contains it")
    only = parser.parse_args().only.lower()
    with tempfile.TemporaryDirectory() as folder:
        rows = [run(tier, Path(folder)) for tier in TIERS if only in tier.name.lower()]
    print("\n| tier | tests | kernel calls and files checked | failures | time |\n|---|---|---|---|---|")
    print(*rows, sep="\n")
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
