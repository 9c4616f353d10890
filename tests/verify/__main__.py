"""``make verify``: every tier of the verification, and one table of what it found.

Each finished tier is recorded in build/verify.json with the sources it ran on: ``--resume`` goes on after an
interruption, and tiers that were run one by one (``--only``) add up to one table. ``--write`` puts the table into
docs/verification.md and README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import compat
from .sources import ROOT, fingerprint

RECORD = ROOT / "build/verify.json"
DOCUMENTS = ROOT / "docs/verification.md", ROOT / "README.md"
COMPATIBILITY = "compatibility"
# What the results of a tier depend on: of those that run the kernels in a process of their own, no Python package and
# no test that goes through MindSpore.
_TESTS = (path.name for path in (ROOT / "tests/maam_ops").glob("*.py"))
KERNELS = (
    *("csrc", "CMakeLists.txt", "Makefile", "tests/verify", "tests/conftest.py", "tests/kernels.py"),
    *(f"tests/maam_ops/{name}" for name in _TESTS if name.startswith("test_native_") or not name.startswith("test_")),
)
EVERYTHING = ("csrc", "CMakeLists.txt", "Makefile", "tests", "maam_ops", "maam", "setup.py", "pyproject.toml")


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

    def fingerprint(self) -> str:
        """Of the sources that its results depend on."""
        return fingerprint(*(KERNELS if self.target and self.name != COMPATIBILITY else EVERYTHING))


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
    Tier(COMPATIBILITY, target="compat", needs=("g++", "make")),
)


@dataclass(frozen=True)
class Row:
    """One line of the table; ``seconds`` are of CPU time, which a loaded machine does not stretch."""

    name: str
    tests: int = 0
    skipped: int = 0
    calls: int = 0
    failures: int = 0
    seconds: float = 0
    why_not: str = ""
    sources: str = ""
    commit: str = ""
    date: str = ""

    def __str__(self) -> str:
        if self.why_not:
            return f"| {self.name} | - | - | - | {self.why_not} | - |"
        calls = f"{self.calls:,}" if self.calls else "-"
        cells = f"{self.tests:,}", f"{self.skipped:,}", calls, str(self.failures), f"{self.seconds:.0f} s"
        return f"| {' | '.join((self.name, *cells))} |"


HEAD = """| tier | tests | skipped | kernel calls and files checked | failures | CPU time |
|---|---|---|---|---|---|"""


def run(tier: Tier, folder: Path) -> Row:
    missing = [program for program in tier.needs if shutil.which(program) is None]
    if missing:
        return Row(tier.name, why_not=f"skipped: needs {', '.join(missing)}")
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    environment = os.environ | {
        "MAAM_OPS_VERIFY": "full",
        "PYTEST_ADDOPTS": f"--junitxml={report} -o junit_family=xunit1 -p no:cacheprovider",
    }
    if tier.target:
        environment.pop("MAAM_OPS_VERIFY")
        command = ["make", tier.target]
    else:
        command = [sys.executable, "-m", "pytest", "-q", *(f"tests/verify/{name}" for name in tier.tests)]
    if tier.name == COMPATIBILITY:
        environment.pop("PYTEST_ADDOPTS")
    before = _cpu_seconds()
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    seconds = _cpu_seconds() - before
    if tier.name == COMPATIBILITY:
        passed, skipped, failed = compat.totals()
        return Row(tier.name, passed, skipped, failures=failed or int(code != 0), seconds=seconds)
    if not report.exists():
        return Row(tier.name, failures=1, seconds=seconds)
    suite = ET.parse(report).getroot().find("testsuite")
    count = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    calls = sum(int(p.get("value")) for p in suite.iter("property") if p.get("name") == "calls")
    failures = count["failures"] + count["errors"] or int(code != 0)
    return Row(tier.name, count["tests"] - count["skipped"], count["skipped"], calls, failures, seconds)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def recorded() -> dict[str, Row]:
    """Rows that were obtained from the present sources."""
    rows = [Row(**row) for row in json.loads(RECORD.read_text())] if RECORD.exists() else []
    sources = {tier.name: tier.fingerprint() for tier in TIERS}
    return {row.name: row for row in rows if row.sources == sources.get(row.name)}


def record(rows: Iterable[Row]) -> None:
    RECORD.parent.mkdir(exist_ok=True)
    beside = RECORD.with_suffix(".new")
    beside.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    beside.replace(RECORD)


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def table(rows: dict[str, Row]) -> str:
    lines = [rows.get(tier.name, Row(tier.name, why_not="not run")) for tier in TIERS]
    return "\n".join([HEAD, *map(str, lines)])


def described(rows: dict[str, Row]) -> str:
    """When, from what and on what the rows were obtained."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    dates, commits = (sorted({getattr(row, name) for row in rows.values()}) for name in ("date", "commit"))
    return (
        f"{' to '.join(sorted({dates[0], dates[-1]}))}, commit {', '.join(commits)}, "
        f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}."
    )


def write(rows: dict[str, Row]) -> None:
    results = f"<!-- results -->\n{described(rows)}\n\n{table(rows)}\n<!-- end of results -->"
    for path in DOCUMENTS:
        before, rest = path.read_text().split("<!-- results -->")
        path.write_text(before + results + rest.split("<!-- end of results -->")[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify", description=__doc__)
    parser.add_argument("--only", metavar="WORD", default="", help="tiers whose name contains it")
    parser.add_argument("--without", metavar="WORD", help="no tiers whose name contains it")
    parser.add_argument("--resume", action="store_true", help="keep tiers that passed on the same sources")
    parser.add_argument("--write", action="store_true", help="put the table into docs/verification.md and README.md")
    arguments = parser.parse_args()
    rows = recorded()
    with tempfile.TemporaryDirectory() as folder:
        for tier in TIERS:
            name = tier.name.lower()
            if arguments.only.lower() not in name or (arguments.without and arguments.without.lower() in name):
                continue
            if arguments.resume and tier.name in rows and not rows[tier.name].failures:
                continue
            stamp = {"sources": tier.fingerprint(), "commit": commit(), "date": datetime.date.today().isoformat()}
            rows[tier.name] = Row(**asdict(run(tier, Path(folder))) | stamp)
            record(rows.values())
    print(f"\n{table(rows)}")
    if arguments.write:
        write(rows)
    return int(any(row.failures for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
