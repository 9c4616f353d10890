"""A branch of the module by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Arrays, Case, normal


@dataclass(frozen=True)
class BranchTraining(Case):
    """images -> gradients of a convolution, its normalisation and the images, through ReLU and 2x2 max-pool

    Attributes:
        kernel: size of the convolution's.
    """

    kernel: int
    batch: int = 64

    # As of cases.Operator: ReLU and max-pool turn a rounding into another path.
    tolerance: ClassVar = {"": 2e-2}
    CHANNELS: ClassVar = 64

    @property
    def label(self) -> str:
        return f"{self.kernel}x{self.kernel}, batch {self.batch}"

    def inputs(self) -> Arrays:
        return {"x": normal(np.random.default_rng(self.kernel), (self.batch, 3, 32, 32))}

    def expected(self, inputs: Arrays) -> None:
        return None
