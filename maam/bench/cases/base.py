"""What every case is, and how one travels between processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Traffic:
    """What a case cannot do without: streams of `size` float32 read and written once, and float32 FLOPs."""

    reads: int
    writes: int
    size: int
    flops: float

    @property
    def bytes(self) -> int:
        return 4 * self.size * (self.reads + self.writes)


@dataclass(frozen=True)
class Case:
    """One piece of work; subclasses add the sizes.

    Attributes:
        tolerance: largest error allowed for each result, relative to the largest magnitude in it; "" for all others.
    """

    tolerance: ClassVar[dict[str, float]] = {"": 1e-5}

    @property
    def label(self) -> str:
        """The sizes for people."""
        raise NotImplementedError

    def inputs(self) -> Arrays:
        """The same arrays in every process."""
        raise NotImplementedError

    def expected(self, inputs: Arrays) -> Arrays | None:
        """Results in float64; None where another side's results are the truth."""
        raise NotImplementedError

    @property
    def traffic(self) -> Traffic | None:
        """None where no simple bound is known."""
        return None


def to_json(case: Case) -> dict[str, Any]:
    return {"kind": type(case).__name__, **asdict(case)}


def from_json(data: dict[str, Any]) -> Case:
    kinds = {kind.__name__: kind for kind in _kinds(Case)}
    return kinds[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})


def _kinds(base: type[Case]) -> list[type[Case]]:
    return [kind for sub in base.__subclasses__() for kind in [sub, *_kinds(sub)]]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)
