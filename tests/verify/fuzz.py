"""Random cases of every operator: ``make fuzz``. Each is replayed by the line that is printed when it fails.

Drawn are operator, dtype, instruction set, number of threads, shape, number of branches, alignment, and the regime of
the values: sparse, constant, large, small, whole, far from zero.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.maam_ops import native

from .draw import SEED, Draw
from .operators import EVERY


@dataclass(frozen=True)
class FuzzCase:
    seed: int
    number: int

    def run(self) -> str:
        """Check the case; what it was."""
        draw = Draw("fuzz", self.number, seed=self.seed)
        operator, dtype, isa = draw.pick(EVERY)
        threads = draw.pick((1, 2, 2, 3, 8))
        with native.capped(isa), native.threads(threads):
            operator.draw(draw, dtype).check()
        return f"{operator.name} {dtype} {isa} {threads} threads"

    @property
    def replay(self) -> str:
        return f"python -m tests.verify.fuzz --seed {self.seed} --first {self.number} --cases 1"


class FuzzFailure(AssertionError):
    """A random case that failed, with the line that replays it."""


def run(seed: int, first: int = 0, cases: int = 1) -> Iterator[str]:
    """So many cases, one after the other.

    Raises:
        FuzzFailure: naming the line that replays the case.
    """
    for number in range(first, first + cases):
        case = FuzzCase(seed, number)
        try:
            yield case.run()
        except Exception as error:
            raise FuzzFailure(f"{type(error).__name__}: {error}\nreplay: {case.replay}") from error


@dataclass(frozen=True)
class Chunk:
    """Some cases, for a process of its own."""

    seed: int
    first: int
    cases: int

    def run(self) -> tuple[int, int]:
        """Cases that were run, and calls of kernels."""
        calls = 0

        def wrap(launch: native.Launch) -> native.Launch:
            def counting(*arguments):
                nonlocal calls
                calls += 1
                launch(*arguments)

            return counting

        with native.launching(wrap):
            return sum(1 for _ in run(self.seed, self.first, self.cases)), calls


def run_many(seed: int, first: int, cases: int, jobs: int) -> Iterator[tuple[int, int]]:
    """The same in so many processes: cases that were run, and calls of kernels, chunk after chunk.

    Raises:
        FuzzFailure: naming the line that replays the case.
    """
    chunk = 500
    chunks = [Chunk(seed, at, min(chunk, first + cases - at)) for at in range(first, first + cases, chunk)]
    # Spawned, because a runner of kernels, where one is used, cannot be shared.
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(chunks))) as pool:
        yield from pool.imap_unordered(Chunk.run, chunks)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="number of the first case")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, as many as CPUs by default")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    if arguments.cases == 1:
        print(FuzzCase(arguments.seed, arguments.first).run())
        return 0
    start, done, calls = time.monotonic(), 0, 0
    for cases, launched in run_many(arguments.seed, arguments.first, arguments.cases, arguments.jobs):
        done, calls = done + cases, calls + launched
        print(f"{done} cases, {calls} calls of kernels, {time.monotonic() - start:.0f} s", flush=True)
    print("0 failures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
