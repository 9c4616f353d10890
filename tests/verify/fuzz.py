"""Random cases of every operator: ``make fuzz``. Each is replayed by the line that is printed when it fails.

Drawn are operator, dtype, instruction set, number of threads, shape, number of branches, alignment, and the regime of
the values: sparse, constant, large, small, whole, far from zero.
"""

from __future__ import annotations

import argparse
import itertools
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


def run(seed: int, first: int = 0, cases: int | None = None, seconds: float | None = None) -> Iterator[str]:
    """Cases one after the other, until so many are done or so much time has passed.

    Raises:
        FuzzFailure: naming the line that replays the case.
    """
    end = None if seconds is None else time.monotonic() + seconds
    for number in itertools.count(first) if cases is None else range(first, first + cases):
        if end is not None and time.monotonic() > end:
            return
        case = FuzzCase(seed, number)
        try:
            yield case.run()
        except Exception as error:
            raise FuzzFailure(f"{type(error).__name__}: {error}\nreplay: {case.replay}") from error


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="number of the first case")
    parser.add_argument("--cases", type=int, default=100_000)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    start, done = time.monotonic(), 0
    for what in run(arguments.seed, arguments.first, arguments.cases):
        done += 1
        if arguments.cases == 1:
            print(what)
        elif done % 1000 == 0:
            print(f"{done} cases, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{done} cases, 0 failures, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
