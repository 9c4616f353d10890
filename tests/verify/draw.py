"""Random choices of one test case, all from one seed, so that a case is replayed by its number alone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SEED = int(os.environ.get("MAAM_OPS_TEST_SEED", "20260101"))
# Around vectors, tiles, blocks and lines of the kernels.
_EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 255, 257, 1023, 1025)


class Draw:
    """Choices by name of operator, dtype and number; the same seed gives the same case on every machine."""

    def __init__(self, *key: int | str, seed: int | None = None) -> None:
        numbers = [int.from_bytes(k.encode(), "little") if isinstance(k, str) else k for k in key]
        self.rng = np.random.default_rng([SEED if seed is None else seed, *numbers])
        self.seed = int(self.rng.integers(2**31))

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def size(self, largest: int) -> int:
        """1 to ``largest``: half the time one at which kernels change their ways, else any, small ones preferred."""
        edges = [edge for edge in _EDGES if edge <= largest]
        if self.rng.random() < 0.5:
            return self.pick(edges)
        return round(math.exp(self.rng.uniform(0, math.log(largest))))

    def image(self, pixels: int) -> tuple[int, int]:
        """Height and width of an image of about so many pixels at most."""
        height = self.size(max(1, min(48, pixels)))
        return height, self.size(max(1, pixels // height))

    def offset(self) -> int:
        """Elements from the allocation's alignment."""
        return self.pick((0, 0, 1, 2, 3, 5, 8, 13))

    def values(self, values: np.ndarray) -> np.ndarray:
        """The same numbers in another regime."""
        regime = self.pick(("as is", "as is", "sparse", "constant", "large", "small", "whole", "far"))
        match regime:
            case "sparse":
                return np.where(self.rng.random(values.shape) < 0.6, 0, values)
            case "constant":
                return np.full(values.shape, float(self.rng.standard_normal()))
            case "large":
                return values * 16
            case "small":
                return values / 256
            case "whole":
                return np.round(values)
            case "far":
                return values + 32
        return values
