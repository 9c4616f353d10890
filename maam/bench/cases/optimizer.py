"""A step of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Arrays, Case, normal


@dataclass(frozen=True)
class OptimizerStep(Case):
    """values, gradients -> values after the first step of Adam

    Attributes:
        decay: "l2" or "decoupled", as :class:`maam.TrainConfig` has it.
        size: elements, by default about those of the preset authors.
    """

    decay: str
    size: int = 8_400_000

    # Less than a thousandth of a step.
    tolerance: ClassVar = {"": 1e-6}
    BETAS: ClassVar = (0.9, 0.999)
    LEARNING_RATE: ClassVar = 1e-2
    WEIGHT_DECAY: ClassVar = 1e-2
    EPS: ClassVar = 1e-8

    @property
    def label(self) -> str:
        return f"{self.size:,} elements, {self.decay} decay"

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(0)
        return {name: normal(rng, (self.size,)) for name in ("values", "gradients")}

    def expected(self, inputs: Arrays) -> Arrays:
        values, g = (inputs[name].astype(np.float64) for name in ("values", "gradients"))
        beta1, beta2 = self.BETAS
        if self.decay == "l2":
            g += self.WEIGHT_DECAY * values
            # From moments of zero, the correction of their bias makes them the gradient and its square.
            return {"value": values - self.LEARNING_RATE * g / (np.abs(g) + self.EPS / np.sqrt(1 - beta2))}
        direction = (1 - beta1) * g / (np.sqrt(1 - beta2) * np.abs(g) + self.EPS)
        return {"value": values - self.LEARNING_RATE * (direction + self.WEIGHT_DECAY * values)}
